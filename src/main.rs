//! The `muster` binary.

use std::process::ExitCode;

use muster::runner::supervisor;

/// Two thirds of the time under load goes to the kernel, most of it zeroing pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: the processes that jobs run in are this binary too, and many.
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|first| first == supervisor::ARGUMENT).is_some() {
        return supervisor::main(args);
    }
    muster::cli::main(std::env::args_os().collect())
}
