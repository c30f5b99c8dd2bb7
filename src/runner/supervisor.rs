//! Stands between a runner and a job's process, so that whatever is killed, nothing is left behind.
//!
//! The binary runs itself again, three deep; `unsafe` is forbidden, so nothing happens between fork
//! and exec:
//!
//! ```text
//! runner ── outer ── inner ── launch, which becomes the job ── whatever the job starts
//!    └──socket─────────┘
//! ```
//!
//! - **outer** tries to make a process namespace (as root, or in a user namespace), starts *inner* as
//!   its first process, and waits. When *inner* ends, the kernel kills all that is in the namespace.
//!   Where namespaces are refused, *outer* adopts the orphans and kills every descendant itself.
//! - **inner** holds the socket to the runner: when it closes, the runner is gone, and *inner* ends
//!   everything. It dies with *outer*.
//! - **launch** sets the limits, asks to be killed when *inner* dies, and turns into the job.
//!
//! So each of the three that can notice an end is watched by another. Over the socket the runner
//! sends `t` (ask the job to end) and gets one line: `exit CODE`, `signal NUMBER`, `failed TEXT`, or
//! `unmapped` when it has to try again without a namespace.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, stdin};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio, exit};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_child_subreaper, set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, write};

use super::functions::javascript;
use super::{reap, sandbox};

/// The first argument that makes the binary a supervisor: `muster __supervise …`.
pub const ARGUMENT: &str = "__supervise";

/// Runs one of the stages; `args` are those after [`ARGUMENT`].
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let stage = args.next().unwrap_or_default();
    let done = match stage.to_str() {
        Some("outer") => Outer::read(&mut args).map(|outer| outer.run(args)),
        Some("inner") => Inner::read(&mut args).map(|inner| inner.run(args)),
        Some("launch") => launch(args),
        Some(sandbox::STAGE) => sandbox::main(args),
        Some(javascript::STAGE) => javascript::main(args),
        _ => None,
    };
    done.unwrap_or_else(|| {
        eprintln!("muster {ARGUMENT} is for the runner's own use");
        ExitCode::from(2)
    })
}

/// The command that starts a supervised job; `program` and its arguments follow.
pub(super) fn command(binary: &Path, job: &Job<'_>) -> Command {
    let mut command = Command::new(binary);
    command.args([ARGUMENT, "outer"]);
    command.arg(job.dir).arg(job.memory_bytes.to_string()).arg(if job.plain {
        "plain"
    } else {
        "ns"
    });
    command.process_group(0);
    command
}

/// What the outer stage is told.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// The job's directory; removed when the runner is gone.
    pub(super) dir: &'a Path,
    /// Address space, bytes; 0 is no limit.
    pub(super) memory_bytes: u64,
    /// Do not try a namespace.
    pub(super) plain: bool,
}

struct Outer {
    dir: PathBuf,
    memory: OsString,
    plain: bool,
}

impl Outer {
    fn read(args: &mut impl Iterator<Item = OsString>) -> Option<Self> {
        let (dir, memory) = (args.next()?.into(), args.next()?);
        Some(Self { dir, memory, plain: args.next()? == "plain" })
    }

    fn run(self, program: impl Iterator<Item = OsString>) -> ExitCode {
        shield();
        let _ = set_child_subreaper(true);
        // Held as long as this process lives: tells a later runner that the directory is in use.
        let lock = File::open(&self.dir);
        let _held = lock.as_ref().map(File::lock_shared);
        let namespace = !self.plain && own_namespace();
        let mut inner = Command::new(own_binary());
        inner.args([ARGUMENT, "inner", if namespace { "ns" } else { "plain" }]);
        inner.arg(std::process::id().to_string()).arg(&self.memory).args(program);
        match inner.spawn() {
            Ok(child) => {
                wait_for(child.id());
            }
            Err(err) => tell(&format!("failed {err}")),
        }
        let clean = reap::end_descendants();
        if runner_is_gone() {
            let _ = fs::remove_dir_all(&self.dir);
        }
        if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

struct Inner {
    namespace: bool,
    outer: u32,
    memory: OsString,
}

impl Inner {
    fn read(args: &mut impl Iterator<Item = OsString>) -> Option<Self> {
        let namespace = args.next()? == "ns";
        let outer = args.next()?.to_str()?.parse().ok()?;
        Some(Self { namespace, outer, memory: args.next()? })
    }

    fn run(self, program: impl Iterator<Item = OsString>) -> ExitCode {
        shield();
        let _ = set_child_subreaper(true);
        // In a namespace the kernel does the killing. Without one this process has to live on to do
        // it, so it is only told.
        let _ = set_pdeathsig(if self.namespace { Signal::SIGKILL } else { Signal::SIGUSR1 });
        if !self.namespace && parent_id() != self.outer {
            return ExitCode::FAILURE;
        }
        let mut job = Command::new(own_binary());
        job.args([ARGUMENT, "launch"]).arg(std::process::id().to_string());
        job.arg(&self.memory).args(program).stdin(Stdio::null()).process_group(0);
        let job = match job.spawn() {
            Ok(child) => child.id(),
            Err(err) => {
                tell(&format!("failed {err}"));
                return ExitCode::FAILURE;
            }
        };
        let namespace = self.namespace;
        thread::spawn(move || obey_runner(job, namespace));
        if !namespace {
            thread::spawn(move || {
                let _ = watched().wait();
                end_all(namespace)
            });
        }
        let ended = wait_for(job);
        if !namespace {
            if let Ok(group) = i32::try_from(job) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            reap::end_descendants();
        }
        match ended {
            Some(WaitStatus::Exited(_, code)) => tell(&format!("exit {code}")),
            // `as` is how nix's signals give their numbers.
            #[expect(clippy::as_conversions, reason = "an enum with numbers")]
            Some(WaitStatus::Signaled(_, signal, _)) => tell(&format!("signal {}", signal as i32)),
            _ => tell("failed the process was lost"),
        }
        ExitCode::SUCCESS
    }
}

/// Turns into the job: `inner's id, memory, program, arguments…`.
fn launch(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let inner: u32 = args.next()?.to_str()?.parse().ok()?;
    let memory: u64 = args.next()?.to_str()?.parse().ok()?;
    let program = args.next()?;
    let _ = SigSet::empty().thread_set_mask();
    let _ = set_pdeathsig(Signal::SIGKILL);
    // A set-uid program could not be killed by whoever runs this.
    let _ = set_no_new_privs();
    // Its parent may have died before the line above. Numbers are those of a namespace if there is one.
    if parent_id() != inner {
        return Some(ExitCode::FAILURE);
    }
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if memory > 0 {
        let _ = setrlimit(Resource::RLIMIT_AS, memory, memory);
    }
    let err = Command::new(&program).args(args).exec();
    eprintln!("{}: {err}", program.to_string_lossy());
    Some(ExitCode::from(127))
}

/// Reads the runner's wishes; when the socket closes, the runner is gone, and so is everything.
fn obey_runner(job: u32, namespace: bool) {
    let mut wish = [0];
    loop {
        match stdin().read(&mut wish) {
            Ok(1) => {
                if let (b"t", Ok(group)) = (&wish, i32::try_from(job)) {
                    let _ = killpg(Pid::from_raw(group), Signal::SIGTERM);
                }
            }
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => end_all(namespace),
        }
    }
}

/// Ends the process, and with it, or before it, everything below it.
fn end_all(namespace: bool) -> ! {
    if namespace {
        exit(1);
    }
    loop {
        // The main thread buries them, notices that none is left, and ends the process.
        reap::kill_descendants();
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the child ends; buries orphans that come meanwhile.
fn wait_for(child: u32) -> Option<WaitStatus> {
    loop {
        match waitpid(None, None) {
            Ok(status) => {
                let same = |pid: Pid| u32::try_from(pid.as_raw()) == Ok(child);
                if status.pid().is_some_and(same) {
                    return Some(status);
                }
            }
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Signals meant for a runner also reach processes of its name; they must not end its jobs.
fn shield() {
    let mut set = watched();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        set.add(signal);
    }
    let _ = set.thread_block();
}

fn watched() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGUSR1);
    set
}

/// Makes this process's children start in a process namespace of their own, if it is allowed to.
fn own_namespace() -> bool {
    if unshare(CloneFlags::CLONE_NEWPID).is_ok() {
        return true;
    }
    let Ok(own) = fs::metadata("/proc/self") else { return false };
    let (user, group) = (own.uid(), own.gid());
    if !user_namespaces_work() {
        return false;
    }
    if unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID).is_err() {
        return false;
    }
    let mapped = fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| fs::write("/proc/self/gid_map", format!("{group} {group} 1")))
        .and_then(|()| fs::write("/proc/self/uid_map", format!("{user} {user} 1")));
    if mapped.is_err() {
        // Without a map this process owns nothing any more. The runner tries again without.
        tell("unmapped");
        exit(1);
    }
    true
}

fn user_namespaces_work() -> bool {
    let setting = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}"));
    let is = |name: &str, value: &str| setting(name).is_ok_and(|text| text.trim() == value);
    !is("unprivileged_userns_clone", "0") && !is("apparmor_restrict_unprivileged_userns", "1")
}

/// This very binary, also when its file has been replaced.
pub(super) fn own_binary() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() { link.to_owned() } else { std::env::current_exe().unwrap_or_default() }
}

/// A line to the runner.
fn tell(line: &str) {
    let _ = write(stdin().as_fd(), format!("{line}\n").as_bytes());
}

fn runner_is_gone() -> bool {
    write(stdin().as_fd(), b"\n").is_err()
}

/// Whether a process exists, as far as this one can see.
pub(super) fn is_alive(pid: &OsStr) -> bool {
    let pid = pid.to_str().and_then(|pid| pid.parse().ok());
    pid.is_some_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
}
