//! A flow file made ready to be submitted: names become ids, templates one job per input.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::exit::{Failure, Result};
use super::flow_file::{FlowFile, JobEntry, ScriptType, Text, read_text};
use super::flow_inputs::{self, Input};

/// Jobs of one flow file, after expansion.
const JOBS: usize = 100_000;
/// A script may be this large.
const SCRIPT_BYTES: u64 = 8 << 20;

/// What is to be submitted, and what its jobs are called.
#[derive(Debug)]
pub(super) struct Plan {
    /// What the flow is called in messages.
    pub(super) title: String,
    /// The context it runs in.
    pub(super) context: u32,
    /// The actor that asks for it.
    pub(super) caller: u32,
    /// The flow's id.
    pub(super) flow: u32,
    /// The jobs' names by id.
    pub(super) names: BTreeMap<u32, String>,
    /// The result to print at the end: job and key.
    pub(super) output: Option<(u32, String)>,
    /// The params of `flow.submit`.
    pub(super) params: Value,
}

/// The ids of the jobs that an entry stands for.
type Ids<'a> = BTreeMap<&'a str, Vec<u32>>;

impl Plan {
    /// Reads a flow file and all that it names.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let base = path.parent().unwrap_or(Path::new(""));
        // An empty directory name is none to `read_dir`.
        let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let file = FlowFile::read(path)?;
        Self::of(&file, base, &stem.unwrap_or_default())
            .map_err(|failure| failure.during(path.display()))
    }

    fn of(file: &FlowFile, base: &Path, stem: &str) -> Result<Self> {
        let inputs = file.jobs.iter().map(|entry| inputs(entry, base));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let ids = number(&file.jobs, &inputs)?;
        let mut names = BTreeMap::new();
        let mut jobs = Vec::new();
        for (entry, inputs) in file.jobs.iter().zip(&inputs) {
            let template = Template::of(file, entry, base, &ids)?;
            let own = ids.get(entry.name.as_str()).map(Vec::as_slice).unwrap_or_default();
            for (id, input) in own.iter().zip(inputs) {
                names.insert(*id, label(&entry.name, input.as_ref()));
                jobs.push(template.job(*id, input.as_ref()));
            }
        }
        let title = file.name.clone().unwrap_or_else(|| stem.to_owned());
        let output = file.output.as_deref().map(|output| find(output, &ids)).transpose()?;
        let flow = json!({
            "id": file.id,
            "caller_id": file.caller,
            "context_id": file.context,
            "jobs": names.keys().collect::<Vec<_>>(),
            "env_vars": texts(&file.env),
        });
        let params = json!({
            "context_id": file.context,
            "flow": flow,
            "jobs": jobs,
            "fail_fast": file.fail_fast,
        });
        let (context, caller, flow) = (file.context, file.caller, file.id);
        Ok(Self { title, context, caller, flow, names, output, params })
    }

    /// What a job is called.
    pub(super) fn name(&self, id: u32) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| format!("job {id}"))
    }
}

/// The inputs of an entry: a plain job has one that is none.
fn inputs(entry: &JobEntry, base: &Path) -> Result<Vec<Option<Input>>> {
    match &entry.inputs_from {
        None if entry.split_bytes.is_some() => {
            Err(Failure::usage(format!("job {}: split_bytes needs inputs_from", entry.name)))
        }
        None => Ok(vec![None]),
        Some(patterns) => {
            let inputs = flow_inputs::read(base, patterns, entry.split_bytes);
            let inputs = inputs.map_err(|failure| failure.during(format!("job {}", entry.name)))?;
            Ok(inputs.into_iter().map(Some).collect())
        }
    }
}

/// Gives every job its id: those that are said, and on from there.
fn number<'a>(entries: &'a [JobEntry], inputs: &[Vec<Option<Input>>]) -> Result<Ids<'a>> {
    let mut ids = Ids::new();
    let mut taken = BTreeMap::new();
    let mut next = 1_u32;
    for (entry, inputs) in entries.iter().zip(inputs) {
        let name = entry.name.as_str();
        if name.is_empty() || name.contains(['.', '\n']) {
            return Err(Failure::usage(format!(
                "job name `{name}`: must not be empty, nor hold dots"
            )));
        }
        next = entry.id.unwrap_or(next);
        let mut own = Vec::with_capacity(inputs.len());
        for _ in inputs {
            if let Some(other) = taken.insert(next, name) {
                return Err(Failure::usage(format!("jobs {other} and {name} both have id {next}")));
            }
            own.push(next);
            let after = next.checked_add(1);
            next = after.ok_or_else(|| Failure::usage(format!("job {name}: ids run out")))?;
        }
        if taken.len() > JOBS {
            return Err(Failure::usage(format!("more than {JOBS} jobs")));
        }
        if ids.insert(name, own).is_some() {
            return Err(Failure::usage(format!("two jobs are called {name}")));
        }
    }
    Ok(ids)
}

fn label(name: &str, input: Option<&Input>) -> String {
    match input {
        None => name.to_owned(),
        Some(Input { file, part: None, .. }) => format!("{name}[{file}]"),
        Some(Input { file, part: Some(part), .. }) => format!("{name}[{file}#{part}]"),
    }
}

/// `job.key`: a result of one job.
fn find(output: &str, ids: &Ids<'_>) -> Result<(u32, String)> {
    let wrong = |why: &str| Failure::usage(format!("output `{output}`: {why}"));
    let (name, key) = output.split_once('.').ok_or_else(|| wrong("must be JOB.KEY"))?;
    match ids.get(name).map(Vec::as_slice) {
        Some([id]) => Ok((*id, key.to_owned())),
        Some(_) => Err(wrong("stands for several jobs")),
        None => Err(wrong("there is no such job")),
    }
}

/// What all expansions of an entry have in common.
struct Template<'a> {
    file: &'a FlowFile,
    entry: &'a JobEntry,
    script: String,
    script_type: ScriptType,
    depends: Vec<u32>,
    env: BTreeMap<&'a str, String>,
}

impl<'a> Template<'a> {
    fn of(file: &'a FlowFile, entry: &'a JobEntry, base: &Path, ids: &Ids<'_>) -> Result<Self> {
        let wrong = |why: String| Failure::usage(format!("job {}: {why}", entry.name));
        let script = match (&entry.script, &entry.script_file) {
            (Some(script), None) => script.clone(),
            (None, Some(path)) => read_text(&base.join(path), SCRIPT_BYTES)
                .map_err(|failure| failure.during(format!("job {}", entry.name)))?,
            (Some(_), Some(_)) => return Err(wrong("has both script and script_file".into())),
            (None, None) => return Err(wrong("needs script or script_file".into())),
        };
        let told = entry.script_file.as_deref().and_then(ScriptType::of_file);
        let script_type = entry.script_type.or(told).or(file.defaults.script_type);
        let script_type = script_type.ok_or_else(|| wrong("needs a script_type".into()))?;
        let mut named = BTreeMap::new();
        for name in &entry.depends {
            let of_name = ids.get(name.as_str());
            let of_name =
                of_name.ok_or_else(|| wrong(format!("depends on `{name}`, which is no job")))?;
            named.insert(name.as_str(), of_name);
        }
        let mut env: BTreeMap<&str, String> =
            entry.env.iter().map(|(key, Text(text))| (key.as_str(), text.clone())).collect();
        if !named.is_empty() {
            // The inputs of a job go by ids, which the file's author does not know.
            let texts = |ids: &Vec<u32>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
            let by_name: BTreeMap<_, _> =
                named.iter().map(|(name, ids)| (name, texts(ids))).collect();
            env.entry("DEPENDS").or_insert_with(|| json!(by_name).to_string());
        }
        let mut depends: Vec<u32> = named.into_values().flatten().copied().collect();
        depends.sort_unstable();
        Ok(Self { file, entry, script, script_type, depends, env })
    }

    fn job(&self, id: u32, input: Option<&Input>) -> Value {
        let mut env = self.env.clone();
        if let Some(Input { file, part, text }) = input {
            env.insert("INPUT", text.clone());
            env.insert("INPUT_FILE", file.clone());
            env.insert("INPUT_PART", part.unwrap_or(1).to_string());
        }
        json!({
            "id": id,
            "caller_id": self.file.caller,
            "context_id": self.file.context,
            "script": self.script,
            "script_type": self.script_type.word(),
            "timeout": self.entry.timeout.unwrap_or(self.file.defaults.timeout),
            "retries": self.entry.retries.unwrap_or(self.file.defaults.retries),
            "env_vars": env,
            "prerequisites": self.entry.prerequisites,
            "depends": self.depends,
        })
    }
}

fn texts(env: &BTreeMap<String, Text>) -> BTreeMap<&str, &str> {
    env.iter().map(|(key, Text(text))| (key.as_str(), text.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, base: &Path) -> Result<Plan> {
        Plan::of(&FlowFile::parse(text, false).unwrap(), base, "test")
    }

    const MAP_REDUCE: &str = r#"
        output = "report.text"
        [defaults]
        script_type = "rhai"
        retries = 1
        [[jobs]]
        name = "count"
        script = "1"
        inputs_from = "*.txt"
        [[jobs]]
        name = "report"
        script = "2"
        depends = ["count"]
        retries = 0
    "#;

    #[test]
    fn a_template_becomes_one_job_per_file_and_what_depends_on_it_depends_on_all() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.txt"), "alpha").unwrap();
        std::fs::write(dir.path().join("b.txt"), "beta").unwrap();
        let plan = plan(MAP_REDUCE, dir.path()).unwrap();
        let names: Vec<&str> = plan.names.values().map(String::as_str).collect();
        assert_eq!(names, ["count[a.txt]", "count[b.txt]", "report"]);
        assert_eq!(plan.output, Some((3, "text".to_owned())));
        let jobs = &plan.params["jobs"];
        assert_eq!(jobs[1]["env_vars"]["INPUT"], "beta");
        assert_eq!(jobs[1]["retries"], 1);
        assert_eq!(jobs[2]["depends"], json!([1, 2]));
        assert_eq!(jobs[2]["env_vars"]["DEPENDS"], r#"{"count":["1","2"]}"#);
        assert_eq!(jobs[2]["script_type"], "Osis");
        assert_eq!(plan.params["flow"]["jobs"], json!([1, 2, 3]));
    }

    #[test]
    fn mistakes_name_the_job_and_what_is_wrong() {
        let here = Path::new(".");
        for (jobs, want) in [
            ("[[jobs]]\nname = 'a'\nscript = ''", "job a: needs a script_type"),
            ("[[jobs]]\nname = 'a'\nscript_type = 'V'", "job a: needs script or script_file"),
            ("[[jobs]]\nname = 'a.b'\nscript = ''", "must not be empty, nor hold dots"),
            (
                "[[jobs]]\nname = 'a'\nscript = ''\nscript_type = 'V'\ndepends = ['b']",
                "job a: depends on `b`, which is no job",
            ),
            (
                "[[jobs]]\nname = 'a'\nscript = ''\n[[jobs]]\nname = 'a'\nscript = ''",
                "two jobs are called a",
            ),
            (
                "[[jobs]]\nname = 'a'\nscript = ''\nid = 2\n[[jobs]]\nname = 'b'\nscript = ''\nid = 2",
                "both have id 2",
            ),
            ("[[jobs]]\nname = 'a'\nscript_file = 'no.py'", "job a: ./no.py"),
        ] {
            let said = plan(jobs, here).unwrap_err().message;
            assert!(said.contains(want), "{said}");
        }
    }

    #[test]
    fn the_shipped_examples_can_be_read() {
        let flows = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flows");
        let [rhai, python] = ["wordcount.toml", "wordcount-python.toml"]
            .map(|name| Plan::read(&flows.join(name)).unwrap());
        assert!(rhai.names.values().eq(python.names.values()));
        assert!(rhai.names.keys().all(|id| !python.names.contains_key(id)));
        assert_eq!(rhai.names.len(), 8);
        assert_eq!(rhai.params["jobs"][0]["script_type"], "Osis");
        assert_eq!(python.params["jobs"][0]["script_type"], "Python");
    }
}
