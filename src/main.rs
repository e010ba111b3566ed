use std::process::ExitCode;

/// Many small allocations on several threads are what a server does; the system's allocator was seen among the costs of a
/// login. It stands in the place of `malloc`, which Rust, SQLite and the cryptography take.
const ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // It is linked because something names it.
    std::hint::black_box(ALLOCATOR.version());
    magpie::cli::run().await
}
