//! Where values come from, and which of them wins.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Config, ConfigError, Kind, SETTINGS, Setting};

/// A file larger than this is not a configuration.
const FILE_BYTES: u64 = 1 << 20;

/// What was said where, not yet put together.
#[derive(Debug, Default)]
pub struct Layers {
    /// From the command line, by key.
    pub flags: BTreeMap<&'static str, String>,
    /// From the environment, by key.
    pub environment: BTreeMap<&'static str, String>,
    file: BTreeMap<&'static str, String>,
    path: PathBuf,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The file.
    File(PathBuf),
    /// The environment variable.
    Variable(String),
    /// The command line flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// The configuration that applies, and where each value of it comes from.
#[derive(Debug)]
pub struct Effective {
    /// What applies.
    pub config: Config,
    /// One per setting, in the order of [`SETTINGS`].
    pub origins: Vec<(&'static Setting, Origin)>,
}

impl Layers {
    /// Takes what the environment says, by way of `lookup`.
    pub fn environment(&mut self, lookup: impl Fn(&str) -> Option<String>) {
        let said = SETTINGS.iter().filter_map(|s| Some((s.key, lookup(&s.variable())?)));
        self.environment.extend(said);
    }

    /// Takes what a file says.
    ///
    /// # Errors
    /// When it cannot be read, is not TOML, or has a key that is no setting.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let size = std::fs::metadata(path).map_err(|e| broken(path, e))?.len();
        if size > FILE_BYTES {
            return Err(broken(path, format!("larger than {FILE_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| broken(path, e))?;
        self.text(path, &text)
    }

    fn text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|e| broken(path, e))?;
        for (key, value) in table {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
                let hint = nearest(&key).map(|near| format!(", did you mean `{near}`?"));
                let (path, hint) = (path.display().to_string(), hint.unwrap_or_default());
                return Err(ConfigError::Unknown { path, key, hint });
            };
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(on) => on.to_string(),
                toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
                    return Err(ConfigError::Value {
                        key: setting.key,
                        origin: path.display().to_string(),
                        reason: "must be one value".to_owned(),
                    });
                }
            };
            self.file.insert(setting.key, text);
        }
        path.clone_into(&mut self.path);
        Ok(())
    }

    /// Puts the layers together: flags over environment over file over defaults.
    ///
    /// # Errors
    /// When a value does not fit its setting; the message names the setting and where it was set.
    pub fn resolve(&self) -> Result<Effective, ConfigError> {
        let mut config = Config::default();
        let mut origins = Vec::with_capacity(SETTINGS.len());
        for setting in SETTINGS {
            let (origin, text) = self.pick(setting);
            if let Some(text) = text {
                (setting.read)(&mut config, text).map_err(|reason| ConfigError::Value {
                    key: setting.key,
                    origin: origin.to_string(),
                    reason,
                })?;
            } else if setting.key == "backup_dir" {
                config.backup_dir = config.data_dir.join("backups");
            }
            origins.push((setting, origin));
        }
        config.check()?;
        Ok(Effective { config, origins })
    }

    fn pick(&self, setting: &Setting) -> (Origin, Option<&String>) {
        if let Some(text) = self.flags.get(setting.key) {
            return (Origin::Flag(setting.flag()), Some(text));
        }
        if let Some(text) = self.environment.get(setting.key) {
            return (Origin::Variable(setting.variable()), Some(text));
        }
        if let Some(text) = self.file.get(setting.key) {
            return (Origin::File(self.path.clone()), Some(text));
        }
        (Origin::Default, None)
    }
}

impl Effective {
    /// As a file that sets everything to what applies, with the origin beside each value.
    pub fn to_toml(&self) -> String {
        let rows = self.origins.iter().map(|(setting, origin)| {
            let value = toml_value(setting.kind, (setting.show)(&self.config));
            (format!("{} = {value}", setting.key), origin)
        });
        let rows: Vec<(String, &Origin)> = rows.collect();
        let width = rows.iter().map(|(row, _)| row.len()).max().unwrap_or_default();
        rows.iter().map(|(row, origin)| format!("{row:width$}  # {origin}\n")).collect()
    }

    /// As JSON: `{"<key>": {"value": …, "origin": "…"}}`.
    pub fn to_json(&self) -> Value {
        let members = self.origins.iter().map(|(setting, origin)| {
            let text = (setting.show)(&self.config);
            let parsed = match setting.kind {
                Kind::Switch => serde_json::from_str(&text).ok(),
                kind if kind.is_number() => serde_json::from_str(&text).ok(),
                _ => None,
            };
            let value: Value = parsed.unwrap_or_else(|| text.into());
            (setting.key.to_owned(), json!({ "value": value, "origin": origin.to_string() }))
        });
        Value::Object(members.collect::<Map<_, _>>())
    }
}

/// The file that is read when none is named: `muster.toml` of the working directory.
pub fn default_file() -> Option<PathBuf> {
    let path = PathBuf::from("muster.toml");
    path.is_file().then_some(path)
}

fn toml_value(kind: Kind, text: String) -> String {
    if kind.is_number() || kind == Kind::Switch {
        text
    } else {
        toml::Value::from(text).to_string()
    }
}

fn broken(path: &Path, reason: impl fmt::Display) -> ConfigError {
    let reason = reason.to_string().trim_end().to_owned();
    ConfigError::File { path: path.display().to_string(), reason }
}

/// The setting whose name shares most with `key`, if that is much.
fn nearest(key: &str) -> Option<&'static str> {
    let wanted = key.replace('-', "_").to_ascii_lowercase();
    let same = |known: &str| known.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
    let near = SETTINGS.iter().map(|setting| setting.key).max_by_key(|known| same(known))?;
    (same(near) >= 4).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(
        file: &str,
        environment: &[(&'static str, &str)],
        flags: &[(&'static str, &str)],
    ) -> Layers {
        let mut layers = Layers::default();
        layers.text(Path::new("muster.toml"), file).unwrap();
        let variable = |name: &str| {
            let said = environment.iter().find(|(wanted, _)| *wanted == name);
            said.map(|(_, text)| (*text).to_owned())
        };
        layers.environment(variable);
        layers.flags.extend(flags.iter().map(|(key, text)| (*key, (*text).to_owned())));
        layers
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let effective = layers(
            "api_http_port = 1\napi_ws_port = 2\nmax_batch = 3\nlocal_runner = true",
            &[("MUSTER_API_HTTP_PORT", "10"), ("MUSTER_API_WS_PORT", "20")],
            &[("api_http_port", "100")],
        );
        let effective = effective.resolve().unwrap();
        let config = &effective.config;
        assert_eq!((config.http.port(), config.ws.port(), config.max_batch), (100, 20, 3));
        assert!(config.local_runner);
        let origins: BTreeMap<&str, String> =
            effective.origins.iter().map(|(s, origin)| (s.key, origin.to_string())).collect();
        assert_eq!(origins["api_http_port"], "--api-http-port");
        assert_eq!(origins["api_ws_port"], "MUSTER_API_WS_PORT");
        assert_eq!(origins["max_batch"], "muster.toml");
        assert_eq!(origins["max_body"], "default");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let said = Layers::default().text(Path::new("m.toml"), "api_http_prot = 1").unwrap_err();
        assert_eq!(
            said.to_string(),
            "m.toml: there is no setting `api_http_prot`, did you mean `api_http_port`?"
        );
        let said = Layers::default().text(Path::new("m.toml"), "[api]\nport = 1").unwrap_err();
        assert!(said.to_string().contains("`api`"), "{said}");
    }

    #[test]
    fn a_bad_value_names_the_setting_and_where_it_was_set() {
        let said = layers("", &[("MUSTER_MAX_BATCH", "many")], &[]).resolve().unwrap_err();
        assert!(
            said.to_string().starts_with("max_batch (from MUSTER_MAX_BATCH): must be"),
            "{said}"
        );
    }

    #[test]
    fn backups_go_below_the_data_directory_unless_told_otherwise() {
        let config = layers("", &[], &[("data_dir", "/srv/m")]).resolve().unwrap().config;
        assert_eq!(config.backup_dir, Path::new("/srv/m/backups"));
        let config = layers("backup_dir = '/b'", &[], &[("data_dir", "/srv/m")]).resolve();
        assert_eq!(config.unwrap().config.backup_dir, Path::new("/b"));
    }

    #[test]
    fn what_is_printed_is_a_file_that_sets_the_same() {
        let first = layers("", &[], &[("data_dir", "a \"b\""), ("runner_grace", "0.5")]);
        let first = first.resolve().unwrap();
        let second = layers(&first.to_toml(), &[], &[]).resolve().unwrap();
        assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config));
        assert_eq!(first.to_json()["runner_grace"]["value"], json!(0.5));
    }
}
