//! Finds and kills processes: all that descend from this one, or all that carry a mark.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// Looks before giving up: what is stuck in the kernel cannot be killed by anyone.
const LOOKS: u32 = 10_000;

/// Kills and buries every descendant of this process, which must be a subreaper, until none is left.
///
/// A process of ours without children has no descendants, because orphans come to a subreaper.
/// Returns false when some could not be killed.
pub(super) fn end_descendants() -> bool {
    for _ in 0..LOOKS {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return true,
            }
        }
        kill_descendants();
        sleep(PAUSE);
    }
    false
}

/// Sends SIGKILL to every descendant that can be seen now.
pub(super) fn kill_descendants() {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for pid in processes() {
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut next = vec![getpid().as_raw()];
    let mut seen = BTreeSet::new();
    while let Some(pid) = next.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            if seen.insert(child) {
                // A whole group dies at once; a fork in the middle of it cannot get away.
                let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
                next.push(child);
            }
        }
    }
}

/// Kills every process of this user whose environment holds `mark`, until none is found.
pub(super) fn kill_marked(mark: &str) {
    for _ in 0..LOOKS {
        let marked = processes().filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let own = i32::try_from(std::process::id()) == Ok(*pid);
            !own && environment.windows(mark.len()).any(|part| part == mark.as_bytes())
        });
        let marked: Vec<i32> = marked.collect();
        if marked.is_empty() {
            return;
        }
        for pid in marked {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        sleep(PAUSE);
    }
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The parent, from `pid (name) state parent …`; the name may hold anything.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_of_this_process_is_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        let expected = i32::try_from(std::os::unix::process::parent_id()).unwrap();
        assert_eq!(parent(own), Some(expected));
        assert!(processes().any(|pid| pid == own));
    }
}
