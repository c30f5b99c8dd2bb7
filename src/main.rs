//! The `muster` binary.

use std::process::ExitCode;

/// Two thirds of the time under load goes to the kernel, most of it zeroing pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    muster::cli::main(std::env::args_os().collect())
}
