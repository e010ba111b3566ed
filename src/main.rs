use std::process::ExitCode;

/// Many small allocations on several threads are what a server does; the system's allocator was seen
/// among the costs of a login.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    magpie::cli::run().await
}
