//! The program: the allocator, the connectors, and the command line.

mod connectors;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    thalweg_cli::main(connectors::registry())
}
