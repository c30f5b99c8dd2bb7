//! The `muster` binary.

use std::process::ExitCode;

use muster::runner::supervisor;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|first| first == supervisor::ARGUMENT).is_some() {
        return supervisor::main(args);
    }
    ExitCode::SUCCESS
}
