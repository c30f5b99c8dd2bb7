//! `dcp.job.deploy`: a work function and its first slices.

use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::account;
use super::account_param::AccountParam;
use super::identity::identity;
use super::job_body::{self, MARKET, Order, Problems};
use super::refuse;
use super::secret::Secret;
use super::style::LARGE;
use crate::app::Cx;
use crate::config::Compute;
use crate::engine::{self, Turn};
use crate::face::core::aside::aside;
use crate::face::core::compute_group::{JoinGroup, NotJoined, join};
use crate::method::{Access, Def, Method, RestRequest, Spec, Verb};
use crate::model::address::Address;
use crate::model::credit::millionths;
use crate::model::demand::{Demands, PUBLIC};
use crate::model::slices::PUBLIC_GROUP;
use crate::model::work::ATTEMPTS;
use crate::store::{WEBHOOKS, WORK_SOURCES, WebhookRow, WorkRow};
use crate::{Code, Error, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<Deploy>()];

/// Deploys a job: a work function, and the first slices to call it with.
///
/// The job is open: it takes slices at any time until it is cancelled.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobDeployParams")]
pub struct Deploy {
    /// The function, its language or its runtime.
    #[schemars(with = "WorkParam")]
    pub work: Option<Box<RawValue>>,
    /// The payment account.
    #[schemars(with = "AccountParam")]
    pub account: Option<Box<RawValue>>,
    /// The first slices: an array of any JSON; or `{"remoteDataSet": [url, …]}`, where each is
    /// fetched when it is to be worked on, from origins that the server allows.
    #[serde(default)]
    #[schemars(with = "Option<FirstSlices>")]
    pub slices: Option<Box<RawValue>>,
    /// Further arguments of the function, after the datum: an array of any JSON.
    #[serde(default)]
    #[schemars(with = "Option<Vec<Value>>")]
    pub args: Option<Box<RawValue>>,
    /// The same.
    #[serde(alias = "arguments_", default)]
    #[schemars(with = "Option<Vec<Value>>")]
    pub arguments: Option<Box<RawValue>>,
    /// Compute groups whose runners may serve it; the public one when left out.
    #[serde(default, rename = "computeGroups")]
    #[schemars(with = "Option<Value>")]
    pub compute_groups: Option<Box<RawValue>>,
    /// `MARKET_VALUE`, or a decimal number from 0 up; recorded.
    #[serde(default, rename = "slicePaymentOffer")]
    #[schemars(with = "Option<Value>")]
    pub slice_payment_offer: Option<Box<RawValue>>,
    /// Demands on runners, nested booleans: only runners that have all that is `true` serve it.
    #[serde(default)]
    #[schemars(with = "Option<Value>")]
    pub requirements: Option<Box<RawValue>>,
    /// Modules that the function needs; recorded.
    #[serde(default)]
    #[schemars(with = "Option<Value>")]
    pub packages: Option<Box<RawValue>>,
    /// The same.
    #[serde(default)]
    #[schemars(with = "Option<Value>")]
    pub requires: Option<Box<RawValue>>,
    /// Its `name`, `description` and `link` in listings.
    #[serde(alias = "public_", default)]
    #[schemars(with = "Option<Value>")]
    pub public: Option<Box<RawValue>>,
    /// Where each result is to be sent: URLs of origins that the server allows.
    #[serde(default, rename = "webHookUrls")]
    #[schemars(with = "Option<Value>")]
    pub web_hook_urls: Option<Box<RawValue>>,
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default, skip_serializing)]
    pub auth: Option<Secret>,
    /// The body of a REST request, unread.
    #[serde(skip)]
    pub body: Option<Bytes>,
}

/// The first slices of a job.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "DcpFirstSlices")]
pub enum FirstSlices {
    /// The slices themselves.
    Here(Vec<Value>),
    /// Where they are.
    Remote {
        /// URLs, one for each slice.
        #[serde(rename = "remoteDataSet")]
        urls: Vec<String>,
    },
}

/// A work function.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpWork")]
pub struct WorkParam {
    /// The source of one function expression.
    pub function: String,
    /// `js` or `py`; `js` when left out.
    pub language: Option<String>,
    /// `{"name": "map-basic"}` for JavaScript, `{"name": "pyodide"}` for Python.
    pub runtime: Option<Value>,
}

/// A job that was deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpJobDeployed")]
pub struct Deployed {
    /// Its id: `0x` and 40 lower-case hexadecimal digits.
    #[serde(rename = "jobId")]
    pub job_id: String,
}

impl Method for Deploy {
    type Output = Deployed;
    const SPEC: Spec = Spec::new("dcp.job.deploy", Access::Anyone)
        .rest(Verb::Post, "/api/v0/job", 201)
        .also(&["/api/job"])
        .style(&LARGE)
        .errors(&[
            Code::Unauthenticated,
            Code::Forbidden,
            Code::NotFound,
            Code::LimitReached,
            Code::StorageError,
        ]);

    async fn call(self, cx: Cx) -> Result<Deployed> {
        let auth = self.auth.clone();
        let owner = identity(&cx, auth.as_deref()).await?.address;
        let app = Arc::clone(&cx.app);
        let (mut order, mut problems) = aside(move || read(&self, &app.config.compute)).await?;
        let account = order
            .as_ref()
            .map_or(Ok(None), |order| problems.note(AccountParam::read(order.account.as_ref())))?;
        // A keystore is unlocked only for a job that is fit to be deployed otherwise.
        let groups = match order.as_mut() {
            Some(order) => problems.note(groups(&cx, std::mem::take(&mut order.groups)).await)?,
            None => None,
        };
        let payer = match account {
            Some(account) if problems.messages.is_empty() => {
                problems.note(account.check(&cx).await)?
            }
            Some(account) => {
                problems.note(account.check_form())?;
                None
            }
            None => None,
        };
        let (Some(mut order), Some(payer), Some(groups)) = (order, payer, groups) else {
            let refusal = problems.refusal();
            return Err(refusal.unwrap_or_else(|| refuse(400, "the job cannot be deployed")));
        };
        let id = random_id()?;
        let limit = u64::try_from(cx.app.config.slice_timeout.as_millis()).unwrap_or(u64::MAX);
        let hooks = std::mem::take(&mut order.hooks);
        let price = price(&cx.app.config.compute, &order.offer);
        let (source, row, slices) = prepare(order, owner, groups, limit)?;
        let strict = cx.app.config.strict_accounts;
        let change = move |turn: &mut Turn<'_>| {
            let account = account::enter(turn, owner, &payer, strict)?.address;
            let row = WorkRow { account, price, ..row };
            for (place, url) in (0..).zip(hooks) {
                turn.put(WEBHOOKS, &(id, place), &WebhookRow { url, ..WebhookRow::default() })?;
            }
            turn.deploy(engine::Deploy { id, row, source, slices })
        };
        cx.app.engine.change(change).await?;
        Ok(Deployed { job_id: id.to_string() })
    }

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        Some(Ok(Self { body: Some(request.body.clone()), ..Self::default() }))
    }
}

/// Reads the body, or the params as if they were one.
fn read(params: &Deploy, allowed: &Compute) -> Result<(Option<Order>, Problems)> {
    let mut problems = Problems::default();
    let written;
    let text = match &params.body {
        Some(body) => std::str::from_utf8(body)
            .map_err(|_| refuse(400, "the body must be a JSON object in UTF-8"))?,
        None => {
            written = serde_json::to_string(params).map_err(|err| Error::Bug(err.to_string()))?;
            &written
        }
    };
    let order = job_body::read(text, allowed, &mut problems)?;
    // Without an order the account is still looked at, so that all problems are told.
    if order.is_none() {
        let account = account_of(text);
        let read = AccountParam::read(account.as_ref());
        problems.note(read.and_then(|account| account.check_form()))?;
    }
    Ok((order, problems))
}

/// What a finished slice costs, millionths.
fn price(compute: &Compute, offer: &str) -> u64 {
    match offer {
        _ if !compute.credits => 0,
        MARKET => compute.market_value,
        offer => millionths(offer).unwrap_or(u64::MAX),
    }
}

/// The numbers of the compute groups that a job names.
async fn groups(cx: &Cx, groups: Vec<JoinGroup>) -> Result<Vec<u32>> {
    let mut numbers = join(cx, groups).await.map_err(|err| match err {
        NotJoined::Unknown(key) => refuse(400, format!("computeGroups: there is no group `{key}`")),
        NotJoined::Wrong => refuse(403, "computeGroups: wrong joinSecret"),
        NotJoined::Failed(err) => err,
    })?;
    // The public group alone is what a job has that names none.
    if numbers == [PUBLIC] {
        numbers.clear();
    }
    Ok(numbers)
}

fn account_of(body: &str) -> Option<Value> {
    serde_json::from_str::<job_body::Body<'_>>(body).ok()?.account
}

type Prepared = (crate::store::Encoded<crate::store::WorkSourceRow>, WorkRow, engine::Slices);

fn prepare(order: Order, owner: Address, groups: Vec<u32>, slice_millis: u64) -> Result<Prepared> {
    let Order {
        source,
        language,
        capabilities,
        offer,
        name,
        description,
        link,
        slices,
        remote,
        ..
    } = order;
    let row = WorkRow {
        number: 0,
        owner,
        created_at: 0,
        made: 0,
        language,
        group: PUBLIC_GROUP,
        account: owner,
        offer,
        name,
        description,
        link,
        attempts: ATTEMPTS,
        slice_millis,
        demands: Demands { capabilities, groups },
        remote,
        price: 0,
    };
    Ok((WORK_SOURCES.encoded(&source)?, row, slices))
}

/// 160 random bits.
fn random_id() -> Result<Address> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|err| Error::Bug(format!("no randomness: {err}")))?;
    Ok(Address(bytes))
}
