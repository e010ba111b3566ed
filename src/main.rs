use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    magpie::cli::run().await
}
