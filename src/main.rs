//! The program `quire`; see `quire --help`.

use std::process::ExitCode;

/// Many small allocations on many threads are what an actor system does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    quire::cli::main()
}
