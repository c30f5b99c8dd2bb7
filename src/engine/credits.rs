//! What slices cost: charged when they have a result, and nothing is begun that cannot be paid.

use super::turn::Turn;
use super::works::OpenWork;
use crate::Result;
use crate::model::address::Address;
use crate::store::{ACCOUNT_BY_ADDRESS, ACCOUNT_INDEX, ACCOUNTS, AccountRow, Tx};

/// An account as it is stored.
type Stored = ((Address, u32), AccountRow);

fn account(tx: &Tx<'_>, owner: Address, address: Address) -> Result<Option<Stored>> {
    let named = (owner, ACCOUNT_BY_ADDRESS, address.to_string());
    let Some(number) = tx.get(ACCOUNT_INDEX, &named)? else { return Ok(None) };
    let key = (owner, number);
    Ok(tx.get(ACCOUNTS, &key)?.map(|row| (key, row)))
}

impl OpenWork {
    /// Charges the account for so many slices.
    pub(super) fn charge(&self, tx: &mut Tx<'_>, slices: u64) -> Result<()> {
        if self.price == 0 || slices == 0 {
            return Ok(());
        }
        if let Some((key, mut row)) = account(tx, self.owner, self.account)? {
            let cost = i64::try_from(self.price.saturating_mul(slices)).unwrap_or(i64::MAX);
            row.balance = row.balance.saturating_sub(cost);
            tx.put(ACCOUNTS, &key, &row)?;
        }
        Ok(())
    }

    /// How many more slices can be begun, of at most so many; none when that cannot be known. When
    /// it is none and nothing is under way, the job pauses.
    pub(super) fn afford(&mut self, tx: &Tx<'_>, most: u64) -> Result<u64> {
        if self.price == 0 {
            return Ok(most);
        }
        let stored = account(tx, self.owner, self.account)?;
        let balance = stored.map_or(0, |(_, row)| u64::try_from(row.balance).unwrap_or_default());
        let begun: u64 = self.batches.values().map(|batch| batch.open.len()).sum();
        let affordable = (balance / self.price).saturating_sub(begun);
        self.ledger.unpaid = affordable == 0 && begun == 0 && !self.ledger.is_settled();
        Ok(most.min(affordable))
    }
}

impl Turn<'_> {
    /// Lets jobs go on that wait for credit on this account.
    ///
    /// # Errors
    /// Storage errors.
    pub fn account_changed(&mut self, owner: Address, account: Address) -> Result<()> {
        let waits =
            |open: &&OpenWork| open.ledger.unpaid && (open.owner, open.account) == (owner, account);
        let waiting: Vec<u32> =
            self.memory.works.values().filter(waits).map(|open| open.number).collect();
        for number in waiting {
            self.touch();
            if let Some(open) = self.memory.works.get_mut(&number) {
                open.afford(&self.tx, 1)?;
            }
            self.keep_work(number)?;
        }
        Ok(())
    }
}
