//! `adv.list`: the feed, page by page.

use std::fmt::Write as _;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::NodeAdvertisement;
use super::accept::{ROW, digest};
use super::cursor::Cursor;
use super::get::asks_for_attestation;
use super::refusal::{Reason, Rejection, STYLE};
use crate::app::{App, Cx};
use crate::face::core::aside::{Rendered, aside};
use crate::method::{Access, Def, Json, Method, RestRequest, Spec, Verb};
use crate::store::{DIRECTORY, DirectoryRow, FEDERATIONS, STATEMENTS, StatementRow, Store};
use crate::{Code, Result};

/// This method.
pub const METHODS: &[Def] = &[Def::call::<List>()];
/// Rows that are read at once: at most so many texts are held that are not sent.
const AT_ONCE: usize = 32;

/// Lists current advertisements in the order in which they were accepted, page by page.
///
/// The page is empty if and only if there is nothing more; `next` then says where to go on later.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AdvListParams")]
pub struct List {
    /// Only what came after this cursor; from the oldest on when left out or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Entries in one page: 1 or more; no more than the directory allows are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Only those of this federation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation: Option<String>,
    /// A signed statement of the answer is asked for.
    #[serde(skip)]
    #[schemars(skip)]
    attest: bool,
}

/// How many entries are wanted; zero when what was given is no such number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub u64);

/// A page of the feed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AdvPage")]
pub struct Page {
    /// The advertisements, the one that was accepted first coming first.
    pub items: Vec<NodeAdvertisement>,
    /// Where to go on.
    pub next: String,
    /// The number of entries that this page could have had.
    #[serde(rename = "max-items")]
    pub max_items: u32,
    /// `since` is not of this store: this is the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<bool>,
}

impl Method for List {
    type Output = Rendered<Page>;
    const SPEC: Spec = Spec::new("adv.list", Access::Anyone)
        .rest(Verb::Get, "/adv", 200)
        .style(&STYLE)
        .errors(&[Code::InvalidParams, Code::Unavailable]);

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        let mut list = Self { attest: asks_for_attestation(request.query), ..Self::default() };
        for (name, text) in form_urlencoded::parse(request.query.as_bytes()) {
            match &*name {
                "since" if list.since.is_none() => list.since = Some(text.into_owned()),
                "limit" if list.limit.is_none() => list.limit = Some(Limit::of_text(&text)),
                "federation" if list.federation.is_none() => {
                    list.federation = Some(text.into_owned());
                }
                // Which of two is meant nobody knows.
                "since" => return Some(Err(Rejection::from(Reason::CursorInvalid).error(None))),
                "limit" => list.limit = Some(Limit(0)),
                _ => {}
            }
        }
        Some(Ok(list))
    }

    async fn call(self, cx: Cx) -> Result<Rendered<Page>> {
        aside(move || self.page(&cx.app)).await
    }

    fn render(output: Rendered<Page>) -> Result<Json> {
        Ok(output.into_json())
    }
}

impl List {
    fn page(&self, app: &App) -> Result<Rendered<Page>> {
        let rules = &app.config.directory;
        let directory = app.store.get(DIRECTORY, &ROW)?.unwrap_or_default();
        let place = Place::of(self.since.as_deref(), &directory);
        let place = place.map_err(|refused| refused.error(None))?;
        let limit = Limit::within(self.limit, rules.page);
        let limit = limit.map_err(|refused| refused.error(None))?;
        if self.attest {
            return Err(Rejection::from(Reason::AttestationUnavailable).error(None));
        }
        let walk = Walk::new(place.position, directory.position, self.federation.clone());
        let (items, position) = gather(app, walk, limit)?;
        let next = Cursor { born: directory.born, position };
        let reset = if place.reset { r#","reset":true"# } else { "" };
        let text = format!(r#"{{"items":[{items}],"next":"{next}","max-items":{limit}{reset}}}"#);
        Rendered::of_text(text)
    }
}

/// Collects a page, and where it ends.
fn gather(app: &App, mut walk: Walk, limit: u32) -> Result<(String, u64)> {
    let now = (app.now)();
    let most = usize::try_from(app.config.directory.page_bytes).unwrap_or(usize::MAX);
    let mut items = String::new();
    let mut left = limit;
    loop {
        let rows = walk.next(&app.store, AT_ONCE.min(usize::try_from(left).unwrap_or(AT_ONCE)))?;
        let Some(rows) = rows else { return Ok((items, walk.until())) };
        for (position, row) in rows {
            if row.expires_at <= now {
                continue;
            }
            if !items.is_empty() && items.len() + row.text.len() > most {
                return Ok((items, position.saturating_sub(1)));
            }
            let comma = if items.is_empty() { "" } else { "," };
            let _ = write!(items, "{comma}{}", row.text);
            left -= 1;
            if left == 0 {
                return Ok((items, position));
            }
        }
    }
}

/// Where a reader stands.
pub(in crate::face) struct Place {
    /// The position after which it goes on.
    pub(in crate::face) position: u64,
    /// It named a place that this store does not have.
    pub(in crate::face) reset: bool,
}

impl Place {
    /// The place that `since` names.
    pub(in crate::face) fn of(
        since: Option<&str>,
        directory: &DirectoryRow,
    ) -> Result<Self, Rejection> {
        let Some(since) = since.filter(|since| !since.is_empty()) else {
            return Ok(Self { position: 0, reset: false });
        };
        if !Cursor::is_cursor(since) {
            return Err(Reason::CursorInvalid.into());
        }
        let ours = |cursor: &Cursor| {
            *cursor == Cursor::default()
                || (cursor.born == directory.born && cursor.position <= directory.position)
        };
        let known = Cursor::parse(since).filter(ours).map(|cursor| cursor.position);
        Ok(Self { position: known.unwrap_or_default(), reset: known.is_none() })
    }
}

/// Walks over the statements between two positions, all of them or those of one federation.
///
/// Reads are no snapshot: beyond a position that was counted before the walk began, one statement
/// could be seen and the one before it not.
#[derive(Debug)]
pub(super) struct Walk {
    after: u64,
    until: u64,
    federation: Option<(String, [u8; 16])>,
    ended: bool,
}

impl Walk {
    pub(super) fn new(after: u64, until: u64, federation: Option<String>) -> Self {
        let federation = federation.map(|federation| {
            let digest = digest(&federation);
            (federation, digest)
        });
        Self { after, until, federation, ended: after >= until }
    }

    /// Where it ends.
    pub(super) const fn until(&self) -> u64 {
        self.until
    }

    /// Goes on from where it ended.
    pub(super) const fn extend(&mut self, until: u64) {
        self.after = self.until;
        self.until = until;
        self.ended = self.after >= until;
    }

    /// The next rows, expired ones among them, none when there are no more; at most `limit`.
    pub(super) fn next(
        &mut self,
        store: &Store,
        limit: usize,
    ) -> Result<Option<Vec<(u64, StatementRow)>>> {
        if self.ended {
            return Ok(None);
        }
        let (mut rows, read) = match &self.federation {
            None => {
                let rows = store.page(STATEMENTS, &(), Some(&self.after), limit)?;
                let read = (rows.len(), rows.last().map(|(position, _)| *position));
                (rows, read)
            }
            Some((federation, digest)) => {
                let index = store.page(FEDERATIONS, digest, Some(&(*digest, self.after)), limit)?;
                let read = (index.len(), index.last().map(|((_, position), ())| *position));
                let mut rows = Vec::with_capacity(index.len());
                for ((_, position), ()) in index {
                    // It may have been replaced in between; then it comes later.
                    let row = store.get(STATEMENTS, &position)?;
                    let row = row.filter(|row| row.federation.as_deref() == Some(federation));
                    rows.extend(row.map(|row| (position, row)));
                }
                (rows, read)
            }
        };
        let (count, last) = read;
        self.after = last.unwrap_or(self.after);
        self.ended = count < limit || self.after >= self.until;
        rows.retain(|(position, _)| *position <= self.until);
        Ok(Some(rows))
    }
}

impl Limit {
    /// The entries that a page may have.
    pub(in crate::face) fn within(limit: Option<Self>, most: u32) -> Result<u32, Rejection> {
        match limit {
            Some(Self(0)) => Err(Reason::LimitInvalid.into()),
            Some(Self(wanted)) => Ok(u32::try_from(wanted).unwrap_or(u32::MAX).min(most)),
            None => Ok(most),
        }
    }

    /// A decimal number; what is beyond 64 bits is very many.
    pub(in crate::face) fn of_text(text: &str) -> Self {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self(0);
        }
        Self(text.parse().unwrap_or(u64::MAX))
    }
}

impl JsonSchema for Limit {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AdvLimit".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1 })
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Limit;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an integer")
            }
            fn visit_u64<E>(self, number: u64) -> Result<Limit, E> {
                Ok(Limit(number))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Limit, E> {
                Ok(Limit(0))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Limit, E> {
                // So serde tells of integers beyond 64 bits.
                Ok(Limit(if number >= 2_f64.powi(63) { u64::MAX } else { 0 }))
            }
        }
        reader.deserialize_any(Reader)
    }
}
