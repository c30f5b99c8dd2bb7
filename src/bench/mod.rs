//! `muster bench`: whole-system figures beside raw baselines of the same run.
//!
//! The servers, this one and the bare ones it is compared with, are processes of their own; the
//! clients are in this process and as cheap as can be, since both share the machine.

mod access;
mod bare;
mod calls;
pub mod child;
pub mod clock;
mod coordinator;
mod directory;
mod flows;
pub mod http;
mod push;
pub mod report;
mod runner;
mod scale;
pub mod shape;
mod slices;
pub mod socket;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use clap::builder::PossibleValuesParser;

use report::Row;

/// Measures this build: throughput, latency, push, restart, memory.
///
/// Prints a line for each figure, with its goal and the raw baseline of the same run.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench")]
pub struct Options {
    /// Only these workloads
    #[arg(long, num_args = 1.., value_name = "NAME", value_parser = PossibleValuesParser::new(WORKLOADS))]
    pub only: Vec<String>,
    /// Multiplies the number of jobs, calls and subscribers
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub scale: f64,
    /// One JSON object per line instead of text
    #[arg(long)]
    pub json: bool,
    /// Where to put the data, a disk whose speed counts
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Serves the baseline instead of measuring
    #[arg(long, hide = true, value_name = "DIR")]
    pub bare_server: Option<PathBuf>,
}

/// All workloads, in the order in which they run.
pub const WORKLOADS: [&str; 14] = [
    "idle", "jobs-4", "jobs-64", "layers", "chain", "load", "create", "access", "receipt",
    "fanout", "dag", "adv", "slices", "restart",
];

/// What the workloads share.
#[derive(Debug)]
struct Bench {
    dir: PathBuf,
    scale: f64,
    json: bool,
    missed: usize,
}

impl Bench {
    /// A fresh directory below the one for this run.
    fn fresh(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    fn scaled(&self, count: usize) -> usize {
        clock::scaled(count, self.scale)
    }

    fn tell(&mut self, row: &Row) -> anyhow::Result<()> {
        self.missed += usize::from(row.pass == Some(false));
        row.print(self.json)
    }
}

/// Runs the workloads asked for and returns how many goals were missed.
///
/// # Errors
/// When a workload cannot be run.
pub fn run(options: &Options) -> anyhow::Result<usize> {
    if let Some(dir) = &options.bare_server {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(bare::serve(dir))?;
        return Ok(0);
    }
    if !(options.scale > 0.0 && options.scale <= 100.0) {
        bail!("--scale must be more than 0 and at most 100");
    }
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = parent.join(format!("muster-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).context("creating a directory for the data")?;
    if in_memory(&dir) {
        eprintln!("{} is in memory: give a disk with --dir", dir.display());
    }
    let mut bench = Bench { dir, scale: options.scale, json: options.json, missed: 0 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(all(&mut bench, &options.only));
    let _ = std::fs::remove_dir_all(&bench.dir);
    outcome?;
    Ok(bench.missed)
}

async fn all(bench: &mut Bench, only: &[String]) -> anyhow::Result<()> {
    for name in WORKLOADS {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        let outcome = match name {
            "idle" => scale::idle(bench).await,
            "jobs-4" => flows::independent(bench, name, 4, 20_000.0).await,
            "jobs-64" => flows::independent(bench, name, 64, 30_000.0).await,
            "layers" => flows::layers(bench).await,
            "chain" => flows::chain(bench).await,
            "load" => calls::load(bench).await,
            "create" => calls::create(bench).await,
            "access" => access::access(bench).await,
            "receipt" => push::receipt(bench).await,
            "fanout" => push::fanout(bench).await,
            "dag" => scale::dag(bench).await,
            "adv" => directory::adv(bench).await,
            "slices" => slices::slices(bench).await,
            _ => scale::restart(bench).await,
        };
        if let Err(error) = outcome {
            // One workload that does not run must not hide the figures of the others.
            bench.missed += 1;
            eprintln!("{name}: {error:#}");
        }
    }
    Ok(())
}

/// Whether a directory is not on any disk, so that durability costs nothing.
fn in_memory(dir: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    statfs(dir).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}
