//! The binary: parse the command, call the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    astlogger::command::main(std::env::args_os())
}
