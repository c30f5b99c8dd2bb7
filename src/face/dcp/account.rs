//! Payment accounts: entered, found, named.

use serde_json::json;

use super::account_param::Payer;
use super::refuse;
use crate::engine::Turn;
use crate::model::address::Address;
use crate::model::credit::Credit;
use crate::store::{
    ACCOUNT_BY_ADDRESS, ACCOUNT_BY_NAME, ACCOUNT_INDEX, ACCOUNTS, AccountRow, Draft, IDENTITIES,
};
use crate::{Error, Result};

/// Most accounts of one identity.
const MOST_ACCOUNTS: u32 = 10_000;
/// Longest name, bytes.
const MOST_NAME: usize = 128;

/// A payment account of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its address.
    pub address: Address,
    /// What it is called.
    pub name: String,
    /// Its place among the identity's accounts, in order of creation.
    pub number: u32,
    /// What is on it.
    pub balance: Credit,
}

/// The account that pays, entered if it is new; `strict` refuses those that were only named by
/// an address that is not known.
///
/// # Errors
/// 403 in the strict case, 404 when there is none of that name, 429 when there are too many.
pub fn enter(turn: &mut Turn<'_>, owner: Address, payer: &Payer, strict: bool) -> Result<Account> {
    let (address, label) = match payer {
        Payer::Proved { address, label } => (*address, label.as_deref()),
        Payer::Address(address) => (*address, None),
        Payer::Name(name) => {
            let none = || refuse(404, "account.label: there is no account of that name");
            return by_name(turn, owner, name)?.ok_or_else(none);
        }
    };
    if let Some(known) = by_address(turn, owner, address)? {
        return Ok(known);
    }
    if strict && matches!(payer, Payer::Address(_)) {
        return Err(refuse(403, "account.address: there is no such account"));
    }
    // A name that does not fit, or is another's, is not worth a refusal here.
    let label = label.filter(|label| check_name("label", label).is_ok());
    let label = match label {
        Some(label) if by_name(turn, owner, label)?.is_none() => label.to_owned(),
        _ => address.short(),
    };
    add(turn, owner, address, label)
}

/// Enters an account under a name, or gives one that there is that name.
///
/// # Errors
/// 409 when another account has that name, 429 when there are too many accounts.
pub(super) fn enter_named(
    turn: &mut Turn<'_>,
    owner: Address,
    address: Address,
    name: &str,
) -> Result<Account> {
    if by_name(turn, owner, name)?.is_some_and(|other| other.address != address) {
        return Err(refuse(409, "label: another account has that name"));
    }
    match by_address(turn, owner, address)? {
        Some(known) => rename(turn, owner, known, name),
        None => add(turn, owner, address, name.to_owned()),
    }
}

/// Refuses what is no name of an account.
///
/// # Errors
/// 400 when it is empty, longer than 128 bytes, or has control characters in it.
pub(super) fn check_name(field: &str, name: &str) -> Result<()> {
    let fits = (1..=MOST_NAME).contains(&name.len()) && !name.chars().any(char::is_control);
    let wrong = || format!("{field}: must be 1 to {MOST_NAME} bytes without control characters");
    if fits { Ok(()) } else { Err(refuse(400, wrong())) }
}

fn by_address(turn: &Turn<'_>, owner: Address, address: Address) -> Result<Option<Account>> {
    by_index(turn, &(owner, ACCOUNT_BY_ADDRESS, address.to_string()))
}

fn by_name(turn: &Turn<'_>, owner: Address, name: &str) -> Result<Option<Account>> {
    by_index(turn, &(owner, ACCOUNT_BY_NAME, name.to_owned()))
}

fn by_index(turn: &Turn<'_>, key: &(Address, u8, String)) -> Result<Option<Account>> {
    let Some(number) = turn.get(ACCOUNT_INDEX, key)? else { return Ok(None) };
    let row = turn.get(ACCOUNTS, &(key.0, number))?;
    let row = row.ok_or_else(|| Error::Bug(format!("account {} {number} is gone", key.0)))?;
    let balance = Credit(row.balance);
    Ok(Some(Account { address: row.address, name: row.name, number, balance }))
}

fn add(turn: &mut Turn<'_>, owner: Address, address: Address, name: String) -> Result<Account> {
    let mut identity = turn.get(IDENTITIES, &owner)?.unwrap_or_default();
    if identity.accounts >= MOST_ACCOUNTS {
        return Err(refuse(429, format!("an identity has at most {MOST_ACCOUNTS} accounts")));
    }
    let number = identity.accounts;
    identity.accounts += 1;
    turn.put(IDENTITIES, &owner, &identity)?;
    let row = AccountRow { name, address, created_at: turn.now, balance: 0 };
    turn.put(ACCOUNTS, &(owner, number), &row)?;
    turn.put(ACCOUNT_INDEX, &(owner, ACCOUNT_BY_ADDRESS, address.to_string()), &number)?;
    let named = (owner, ACCOUNT_BY_NAME, row.name.clone());
    // The first of two whose addresses begin alike keeps the name.
    if !turn.has(ACCOUNT_INDEX, &named)? {
        turn.put(ACCOUNT_INDEX, &named, &number)?;
    }
    tell(turn, "account.created", owner, address, &row.name);
    Ok(Account { address, name: row.name, number, balance: Credit(0) })
}

fn rename(turn: &mut Turn<'_>, owner: Address, known: Account, name: &str) -> Result<Account> {
    if known.name == name {
        return Ok(known);
    }
    let key = (owner, known.number);
    let row = turn.get(ACCOUNTS, &key)?;
    let mut row = row.ok_or_else(|| Error::Bug(format!("account {key:?} is gone")))?;
    let before = (owner, ACCOUNT_BY_NAME, std::mem::replace(&mut row.name, name.to_owned()));
    turn.put(ACCOUNTS, &key, &row)?;
    if turn.get(ACCOUNT_INDEX, &before)? == Some(known.number) {
        turn.remove(ACCOUNT_INDEX, &before);
    }
    turn.put(ACCOUNT_INDEX, &(owner, ACCOUNT_BY_NAME, row.name.clone()), &known.number)?;
    tell(turn, "account.updated", owner, row.address, &row.name);
    Ok(Account { name: row.name, ..known })
}

/// Puts credit on an account, or takes some off it; millionths.
///
/// # Errors
/// 404 when there is no such account.
pub(super) fn credit(
    turn: &mut Turn<'_>,
    owner: Address,
    address: Address,
    amount: i64,
) -> Result<Account> {
    let none = || refuse(404, "address: the identity has no such account");
    let known = by_address(turn, owner, address)?.ok_or_else(none)?;
    let key = (owner, known.number);
    let row = turn.get(ACCOUNTS, &key)?;
    let mut row = row.ok_or_else(|| Error::Bug(format!("account {key:?} is gone")))?;
    row.balance = row.balance.saturating_add(amount);
    turn.put(ACCOUNTS, &key, &row)?;
    tell(turn, "account.credited", owner, address, &row.name);
    Ok(Account { balance: Credit(row.balance), ..known })
}

fn tell(turn: &mut Turn<'_>, kind: &'static str, owner: Address, address: Address, name: &str) {
    turn.emit(Draft {
        kind,
        context_id: None,
        subject: format!("dcp/{owner}/account/{address}"),
        group: None,
        data:
            json!({ "identity": owner.to_string(), "address": address.to_string(), "name": name })
                .to_string(),
    });
}
