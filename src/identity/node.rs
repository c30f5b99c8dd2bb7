//! This node's own key: a file of its data directory that nobody else can read.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

use super::PublicKey;
use super::signature::BYTES;

/// Its name in the data directory.
pub const FILE: &str = "node.key";
/// First word of the file.
const HEADER: &str = "muster-ed25519-1";
/// A longer file is no key.
const LONGEST: u64 = 1_024;

/// A key to sign with. Its memory is overwritten when it is dropped.
pub struct NodeKey {
    secret: SigningKey,
    public: PublicKey,
}

/// Why the key cannot be used; no message holds any of the secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is none.
    #[error("{}: there is no key yet: the first start of the coordinator makes one", .0.display())]
    Missing(PathBuf),
    /// Others than its owner may read or write it.
    #[error(
        "{}: the node's key can be read by others (mode {mode:04o}): run `chmod 600 {}`, and replace the key if somebody may have read it",
        path.display(), path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not what was written.
    #[error(
        "{}: the node's key is damaged ({reason}): restore the file from a copy, or remove it to become another node",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The system gives no random numbers.
    #[error("no random numbers for a key: {0}")]
    Random(getrandom::Error),
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl NodeKey {
    /// The key of these 32 secret bytes.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let secret = SigningKey::from_bytes(secret);
        // What is multiplied out of a secret is a point of large order.
        let public = PublicKey(secret.verifying_key());
        Self { secret, public }
    }

    /// A new key.
    ///
    /// # Errors
    /// [`KeyFileError::Random`].
    pub fn generate() -> Result<Self, KeyFileError> {
        let mut secret = Zeroizing::new([0_u8; 32]);
        getrandom::fill(secret.as_mut_slice()).map_err(KeyFileError::Random)?;
        Ok(Self::from_secret(&secret))
    }

    /// The key of a data directory, made and stored when there is none.
    ///
    /// One process at a time: whoever calls has the directory's lock.
    ///
    /// # Errors
    /// [`KeyFileError`]; a key that others may have read or that is damaged is not replaced.
    pub fn of_dir(dir: &Path) -> Result<Self, KeyFileError> {
        match Self::load(dir) {
            Err(KeyFileError::Missing(path)) => {
                let key = Self::generate()?;
                let stored = key.store(dir, &path);
                stored.map_err(|source| KeyFileError::Io { path, source })?;
                tracing::info!(node = %key.public, "made a key for this node");
                Ok(key)
            }
            loaded => loaded,
        }
    }

    /// The key of a data directory.
    ///
    /// # Errors
    /// [`KeyFileError`]; [`KeyFileError::Missing`] when there is none.
    pub fn load(dir: &Path) -> Result<Self, KeyFileError> {
        let path = dir.join(FILE);
        let damaged = |reason| KeyFileError::Damaged { path: path.clone(), reason };
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => KeyFileError::Missing(path.clone()),
            _ => KeyFileError::Io { path: path.clone(), source },
        };
        // A pipe in its place must not make the start wait.
        let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
        let file =
            OpenOptions::new().read(true).custom_flags(nonblocking).open(&path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(damaged("not a file"));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Open { path, mode });
        }
        let mut text = Zeroizing::new(String::new());
        let room = usize::try_from(LONGEST).unwrap_or_default();
        // Room for all of it: a text that grows leaves copies behind.
        text.reserve_exact(room + 1);
        match file.take(LONGEST + 1).read_to_string(&mut text) {
            Ok(length) if length > room => return Err(damaged("too long")),
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::InvalidData => {
                return Err(damaged("not text"));
            }
            Err(err) => return Err(io(err)),
        }
        Self::from_text(&text).map_err(damaged)
    }

    fn from_text(text: &str) -> Result<Self, &'static str> {
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some(HEADER) {
            return Err("it does not begin as it should");
        }
        let (secret, public) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if words.next().is_some() {
            return Err("there is more in it than there should be");
        }
        let mut bytes = Zeroizing::new([0_u8; 33]);
        let decoded = URL_SAFE_NO_PAD.decode_slice(secret, bytes.as_mut_slice());
        let (Ok(32), Some(secret)) = (decoded, bytes.first_chunk::<32>()) else {
            return Err("the secret is cut off or altered");
        };
        let key = Self::from_secret(secret);
        if key.public.multibase() == public { Ok(key) } else { Err("its two parts do not match") }
    }

    /// Writes the file as a whole or not at all.
    fn store(&self, dir: &Path, path: &Path) -> io::Result<()> {
        let fresh = dir.join(format!("{FILE}.new"));
        // What an earlier start left half-written.
        match fs::remove_file(&fresh) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        let secret = Zeroizing::new(self.secret.to_bytes());
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(secret.as_slice()));
        let public = self.public.multibase();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        for part in [HEADER, " ", &secret, " ", &public, "\n"] {
            file.write_all(part.as_bytes())?;
        }
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        File::open(dir)?.sync_all()
    }

    /// The public key.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// `node:did:key:z6Mk…`
    pub fn node_id(&self) -> String {
        self.public.node_id()
    }

    /// Signs bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; BYTES] {
        self.secret.sign(message).to_bytes()
    }
}
