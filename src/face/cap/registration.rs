//! A registration: read and proved outside of the engine, then put in the place of the one before.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::name::CapabilityName;
use super::passport::Passport;
use super::presentation::Presentation;
use super::revocation::keys_of;
use super::signed;
use crate::config::Directory;
use crate::engine::Turn;
use crate::face::adv::contract::violation;
use crate::face::adv::refusal::stale;
use crate::face::adv::{Reason, Rejection};
use crate::identity::json::DEPTH;
use crate::identity::public::{NODE_PREFIX, is_node_id};
use crate::identity::{Json, PublicKey};
use crate::model::Millis;
use crate::store::{
    CAPABILITIES, CapabilityRow, DIRECTORY, DirectoryRow, Draft, OFFERS, OFFERS_DUE, OfferRow,
    REVOKED,
};
use crate::{Error, Result};

/// What is told of an accepted registration.
pub(super) const ACCEPTED: &str = "cap.accepted";
/// The row of [`DIRECTORY`] that counts offers.
pub(super) const ROW: u8 = 1;
/// Largest registration, bytes: the advertisement has passports of many capabilities.
const REGISTRATION: usize = 1 << 18;
/// Largest passport, bytes.
const PASSPORT: usize = 1 << 14;
/// Capabilities of a node that are looked at, those that have expired among them.
pub(super) const ROWS_OF_NODE: usize = 2_048;

/// The place that a registration is for.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    /// The node; none: what the passport says.
    pub(super) node_id: Option<String>,
    /// The capability; none: what the passport says.
    pub(super) capability_id: Option<String>,
}

impl Slot {
    /// Checks the form of what was given.
    pub(super) fn check(&self) -> Result<(), Rejection> {
        if self.node_id.as_deref().is_some_and(|id| !is_node_id(id)) {
            return Err(Reason::NodeIdMalformed.into());
        }
        if self.capability_id.as_deref().is_some_and(|id| CapabilityName::parse(id).is_none()) {
            return Err(Reason::CapabilityIdMalformed.into());
        }
        Ok(())
    }
}

/// A registration all of whose proofs hold.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) node: PublicKey,
    pub(super) node_id: String,
    pub(super) offer: OfferRow,
    name: String,
    text: String,
}

/// What came of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    Replaced,
    Unchanged,
}

impl Registration {
    /// Reads a text and checks everything but what was accepted before.
    pub(super) fn read(
        text: &[u8],
        slot: &mut Slot,
        now: Millis,
        rules: &Directory,
    ) -> Result<Self, Rejection> {
        let depth = usize::try_from(rules.max_depth).unwrap_or(DEPTH).saturating_add(1);
        let body = signed::read(text, REGISTRATION, depth)?;
        let sequence = contract(&body)?;
        let whole = body.get("passport").unwrap_or(&Json::Null);
        let passport = Passport::read(Some(whole))?;
        let presentation = Presentation::read(body.get("advertisement"))?;
        let raw = raw_passport(text)?;
        let node_id = slot.node_id.get_or_insert_with(|| passport.node_id.to_owned());
        let capability_id =
            slot.capability_id.get_or_insert_with(|| passport.capability_id.to_owned());
        if passport.node_id != node_id || presentation.node_id != node_id {
            return Err(Reason::OtherNode.into());
        }
        if passport.capability_id != capability_id {
            return Err(Reason::OtherCapability.into());
        }
        let digits = node_id.strip_prefix(NODE_PREFIX).unwrap_or_default();
        let node = PublicKey::from_multibase(digits)
            .map_err(|err| Rejection::new(Reason::KeyInvalid, err.to_string()))?;
        let issuer = passport.authentic()?;
        presentation.authentic(&node)?;
        passport.check_time(now, rules)?;
        presentation.check_time(now, rules)?;
        presentation.presents(&passport, whole)?;
        if body.get("endorsement").is_some_and(|endorsement| *endorsement != Json::Null) {
            let detail = "no federation root is loaded here: register without endorsement";
            return Err(Rejection::new(Reason::RootUnknown, detail));
        }
        let offer = OfferRow {
            node: *node.as_bytes(),
            capability_id: capability_id.clone(),
            sequence,
            passport_id: passport.passport_id.to_owned(),
            issuer: *issuer.as_bytes(),
            issuer_node: passport.issuer_node.to_owned(),
            profile: passport.profile.map(str::to_owned),
            expires_at: passport.expires(),
            expires_text: passport.expires_text.map(str::to_owned),
            published_text: presentation.published_text.to_owned(),
            passport: raw,
        };
        let text = String::from_utf8_lossy(text.trim_ascii()).into_owned();
        let name = passport.name.base.to_owned();
        Ok(Self { node, node_id: node_id.clone(), offer, name, text })
    }

    /// Stores it if it is newer than the one before.
    pub(super) fn accept(self, turn: &mut Turn<'_>, rules: &Limits) -> Result<Outcome> {
        let Self { node, node_id, offer, name, text } = self;
        let refused = |reason: Reason| Rejection::from(reason).error(Some(&node_id));
        let key = (*node.as_bytes(), offer.capability_id.clone());
        for key in keys_of(&offer.passport_id, offer.issuer, key.0) {
            if turn.has(REVOKED, &key)? {
                return Err(refused(Reason::PassportRevoked));
            }
        }
        let before = turn.get(CAPABILITIES, &key)?;
        if let Some(before) = &before
            && offer.sequence <= before.sequence
        {
            let same = offer.sequence == before.sequence
                && (&offer.passport_id, offer.issuer) == (&before.passport_id, before.issuer);
            if same {
                return Ok(Outcome::Unchanged);
            }
            return Err(stale(&node_id, before.sequence, offer.sequence).into());
        }
        if !before.as_ref().is_some_and(|row| is_active(row, turn.now))
            && !has_room(turn, &key.0, rules)?
        {
            return Err(refused(Reason::TooManyCapabilities));
        }
        let mut counts = counts(turn, ROW)?;
        match &before {
            Some(before) => remove(turn, &key, before),
            None if counts.nodes >= rules.entries => {
                return Err(refused(Reason::CapacityExhausted));
            }
            None => counts.nodes += 1,
        }
        counts.position += 1;
        let row = CapabilityRow {
            sequence: offer.sequence,
            passport_id: offer.passport_id.clone(),
            issuer: offer.issuer,
            expires_at: offer.expires_at,
            name: name.clone(),
            position: counts.position,
        };
        turn.put(DIRECTORY, &ROW, &counts)?;
        turn.put(CAPABILITIES, &key, &row)?;
        turn.put(OFFERS, &(name, counts.position), &offer)?;
        if let Some(end) = offer.expires_at {
            turn.put(OFFERS_DUE, &(end, key.0, key.1.clone()), &())?;
        }
        turn.emit(Draft {
            kind: ACCEPTED,
            context_id: None,
            subject: format!("cap/{node_id}/{}", offer.capability_id),
            group: None,
            data: format!(r#"{{"position":{},"registration":{text}}}"#, counts.position),
        });
        Ok(if before.is_some() { Outcome::Replaced } else { Outcome::Created })
    }
}

fn is_active(row: &CapabilityRow, now: Millis) -> bool {
    row.expires_at.is_none_or(|end| end > now)
}

/// Whether a node may have one more capability.
fn has_room(turn: &Turn<'_>, node: &[u8; 32], rules: &Limits) -> Result<bool> {
    let rows = turn.page(CAPABILITIES, node, None, ROWS_OF_NODE)?;
    let active = rows.iter().filter(|(_, row)| is_active(row, turn.now)).count();
    Ok(active < rules.per_node && rows.len() < ROWS_OF_NODE)
}

/// What one of our feeds has so far.
pub(super) fn counts(turn: &Turn<'_>, row: u8) -> Result<DirectoryRow> {
    // Zero is what a store has that was not born yet.
    let new = || DirectoryRow { born: turn.now.max(1), ..DirectoryRow::default() };
    Ok(turn.get(DIRECTORY, &row)?.unwrap_or_else(new))
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    per_node: usize,
    entries: u64,
}

impl Limits {
    pub(super) fn of(rules: &Directory) -> Self {
        let per_node = usize::try_from(rules.capabilities_per_node).unwrap_or(usize::MAX);
        Self { per_node, entries: rules.max_capabilities }
    }
}

/// Takes away what is stored of a capability besides its row.
fn remove(turn: &mut Turn<'_>, key: &([u8; 32], String), row: &CapabilityRow) {
    turn.remove(OFFERS, &(row.name.clone(), row.position));
    if let Some(end) = row.expires_at {
        turn.remove(OFFERS_DUE, &(end, key.0, key.1.clone()));
    }
}

/// Takes away all that is stored of a capability.
pub(super) fn forget(
    turn: &mut Turn<'_>,
    key: &([u8; 32], String),
    row: &CapabilityRow,
) -> Result<()> {
    remove(turn, key, row);
    turn.remove(CAPABILITIES, key);
    if let Some(mut counts) = turn.get(DIRECTORY, &ROW)? {
        counts.nodes = counts.nodes.saturating_sub(1);
        turn.put(DIRECTORY, &ROW, &counts)?;
    }
    Ok(())
}

/// The members of a registration itself; its number.
fn contract(body: &Json) -> Result<u64, Rejection> {
    if body.members().is_none() {
        return Err(violation("must be an object"));
    }
    let number = body.get("sequence/no").and_then(Json::as_u64).filter(|number| *number > 0);
    number.ok_or_else(|| violation("sequence/no must be an integer from 1 on"))
}

/// The text of the passport as it came.
fn raw_passport(text: &[u8]) -> Result<String, Rejection> {
    #[derive(Deserialize)]
    struct Parts {
        passport: Box<RawValue>,
    }
    let parts: Parts = serde_json::from_slice(text)
        .map_err(|err| crate::face::adv::refusal::of_error(&Error::Bug(err.to_string())))?;
    let raw = String::from(Box::<str>::from(parts.passport));
    if raw.len() > PASSPORT { Err(Reason::TooLarge.into()) } else { Ok(raw) }
}
