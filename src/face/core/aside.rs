//! Reads that may take long: where they hold nobody up, and few at a time.

use std::fmt;
use std::marker::PhantomData;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::Semaphore;

use crate::method::Json;
use crate::{Error, Result};

/// Pages of lists that are read at once.
static PAGES: Semaphore = Semaphore::const_new(16);
/// Whole flows that are read at once; a large one takes hundreds of megabytes.
static WHOLES: Semaphore = Semaphore::const_new(2);

/// Bytes of a text that is checked where it arrived: about 0.1 ms with its signature.
const SHORT: usize = 8 << 10;

/// Computations that run at once: more would only wait for each other.
static COMPUTATIONS: LazyLock<Semaphore> = LazyLock::new(|| {
    Semaphore::new(std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get))
});

/// Runs a read of a page's length beside the threads that serve connections.
pub(in crate::face) async fn aside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    run(&PAGES, read).await
}

/// The same for a read whose length only the data bound.
pub(in crate::face) async fn far_aside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    run(&WHOLES, read).await
}

/// Runs what needs a processor, and little else.
pub(in crate::face) async fn computed_aside<T: Send + 'static>(
    compute: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    run(&COMPUTATIONS, compute).await
}

/// Checks a signed text of this many bytes.
///
/// A short one is done with in less time than it takes to hand it to another thread and back.
pub(in crate::face) async fn checked<T: Send + 'static>(
    bytes: usize,
    check: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if bytes <= SHORT { check() } else { computed_aside(check).await }
}

async fn run<T: Send + 'static>(
    places: &'static Semaphore,
    read: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let place = places.acquire().await.map_err(|_| Error::Unavailable("stopping"))?;
    // The place goes along: a caller who leaves does not make room while the read still runs.
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        read()
    });
    done.await.unwrap_or_else(|err| Err(Error::Bug(format!("a read broke off: {err}"))))
}

/// A result that was turned into JSON aside; in documents it is a `T`.
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Rendered<T> {
    text: Box<RawValue>,
    #[serde(skip)]
    of: PhantomData<fn() -> T>,
}

impl<T> Rendered<T> {
    /// Renders what stands for a `T` on the wire.
    ///
    /// # Errors
    /// [`Error::Bug`] when it does not serialise.
    pub fn new(value: &impl Serialize) -> Result<Self> {
        let text = to_raw_value(value).map_err(|err| Error::Bug(err.to_string()))?;
        Ok(Self { text, of: PhantomData })
    }

    /// What was rendered before.
    ///
    /// # Errors
    /// [`Error::Bug`] when it is not JSON.
    pub fn of_text(text: String) -> Result<Self> {
        let text = RawValue::from_string(text).map_err(|err| Error::Bug(err.to_string()))?;
        Ok(Self { text, of: PhantomData })
    }

    /// The text as it is: another copy of a large one would be felt.
    pub fn into_json(self) -> Json {
        self.text
    }
}

impl<T: DeserializeOwned> Rendered<T> {
    /// Reads it back.
    ///
    /// # Errors
    /// When the text is not a `T`.
    pub fn read(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.text.get())
    }
}

impl<T> fmt::Debug for Rendered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered").field("bytes", &self.text.get().len()).finish()
    }
}

impl<T: JsonSchema> JsonSchema for Rendered<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
