//! Shapes of flows, as what each job depends on; job `i` has the id `first + i`.

use std::fmt::Write;

/// Jobs of one shape.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What each job depends on, counted from 0.
    pub depends: Vec<Vec<u32>>,
}

impl Shape {
    /// Jobs that wait for nothing.
    pub fn independent(jobs: usize) -> Self {
        Self { depends: vec![Vec::new(); jobs] }
    }

    /// Layers one after another; each job of one depends on two of the layer before.
    pub fn layered(layers: u32, width: u32) -> Self {
        let job = |layer: u32, column: u32| match layer.checked_sub(1) {
            None => Vec::new(),
            Some(above) if width == 1 => vec![above],
            Some(above) => vec![above * width + column, above * width + (column + 1) % width],
        };
        let all = |layer| (0..width).map(move |column| job(layer, column));
        Self { depends: (0..layers).flat_map(all).collect() }
    }

    /// Each job depends on the one before it.
    pub fn chain(jobs: u32) -> Self {
        Self::layered(jobs, 1)
    }

    /// Each job depends on two that come anywhere before it.
    pub fn scattered(jobs: u32) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        let job = |id: u32| match id {
            0 => Vec::new(),
            1 => vec![0],
            _ => vec![random.u32(0..id / 2), random.u32(id / 2..id)],
        };
        Self { depends: (0..jobs).map(job).collect() }
    }

    /// How many jobs there are.
    pub fn len(&self) -> usize {
        self.depends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.depends.is_empty()
    }

    /// Edges `(dependency, dependent)`.
    pub fn edges(&self) -> Vec<(u32, u32)> {
        let jobs = (0_u32..).zip(&self.depends);
        jobs.flat_map(|(job, on)| on.iter().map(move |from| (*from, job))).collect()
    }

    /// Params of `flow.submit`.
    pub fn submit(&self, flow: u32, first: u32) -> String {
        let mut out = String::with_capacity(self.len() * 320 + 256);
        let ids = self.ids(first);
        let _ = write!(
            out,
            r#"{{"context_id":{CONTEXT},"flow":{{"id":{flow},"caller_id":{CALLER},"context_id":{CONTEXT},"jobs":[{ids}],"env_vars":{{}}}},"jobs":["#
        );
        for (index, (id, depends)) in (first..).zip(&self.depends).enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_job(&mut out, id, first, depends);
        }
        out.push_str("]}");
        out
    }

    /// Params of `flow.create`.
    pub fn create(&self, flow: u32, first: u32) -> String {
        let ids = self.ids(first);
        format!(
            r#"{{"context_id":{CONTEXT},"flow":{{"id":{flow},"caller_id":{CALLER},"context_id":{CONTEXT},"jobs":[{ids}],"env_vars":{{}}}}}}"#
        )
    }

    fn ids(&self, first: u32) -> String {
        let mut out = String::with_capacity(self.len() * 8);
        for (id, _) in (first..).zip(&self.depends) {
            let comma = if out.is_empty() { "" } else { "," };
            let _ = write!(out, "{comma}{id}");
        }
        out
    }
}

/// The context that everything is in.
pub const CONTEXT: u32 = 1;
/// The actor that everything belongs to.
pub const CALLER: u32 = 1;

/// A script that brings a job to about 300 bytes of JSON.
const SCRIPT: &str = "let total = 0; for n in inputs { total += n.len(); } #{ total: total } // some text so that it is as long as a small script is";

/// Appends a job as `flow.submit` and `job.create` take it.
pub fn write_job(out: &mut String, id: u32, first: u32, depends: &[u32]) {
    let _ = write!(
        out,
        r#"{{"id":{id},"caller_id":{CALLER},"context_id":{CONTEXT},"script":"{SCRIPT}","script_type":"Osis","timeout":60,"retries":0,"env_vars":{{"NAME":"value"}},"result":{{}},"prerequisites":[],"depends":["#
    );
    for (index, from) in depends.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{}", first + from);
    }
    out.push_str("]}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dag::Dag;

    #[test]
    fn shapes_are_graphs_of_the_size_they_say() {
        let levels = |shape: &Shape| {
            let jobs = (0_u32..).zip(&shape.depends).map(|(id, on)| (id, on.as_slice()));
            Dag::new(jobs).unwrap().levels().len()
        };
        assert_eq!(levels(&Shape::layered(10, 4)), 10);
        assert_eq!(Shape::layered(10, 4).edges().len(), 72);
        assert_eq!(levels(&Shape::chain(50)), 50);
        assert!(levels(&Shape::scattered(100)) > 1);
        assert_eq!(levels(&Shape::independent(3)), 1);
    }

    #[test]
    fn params_are_json_of_the_right_size() {
        let text = Shape::chain(2).submit(7, 100);
        let params: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(params["jobs"][1]["depends"], serde_json::json!([100]));
        assert_eq!(params["flow"]["jobs"], serde_json::json!([100, 101]));
        let job = params["jobs"][0].to_string();
        assert!((250..350).contains(&job.len()), "{}", job.len());
    }
}
