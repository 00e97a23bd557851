//! The `pgweir` program: arguments, then [`pgweir::app::run`].

use clap::{Args, Parser, Subcommand};
use pgweir::app::{self, Verbosity};
use pgweir::config::{Config, check_report, convert, process_environment};
use std::path::PathBuf;
use std::process::ExitCode;

/// A PostgreSQL connection pooler with transaction-level multiplexing.
#[derive(Debug, Parser)]
#[command(name = "pgweir", version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Option<Serve>,
}

#[derive(Debug, Args)]
struct Serve {
    /// The configuration: TOML or a pgbouncer.ini.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Log more; may be given twice.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Log nothing.
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Validate a configuration and print what it comes to, with the origin of each value.
    Check {
        /// The configuration: TOML or a pgbouncer.ini.
        file: PathBuf,
    },
    /// Print a pgbouncer.ini as commented TOML.
    Convert {
        /// The pgbouncer.ini.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failure; a wrong call is 1, as PgBouncer has it.
            let _nowhere_to_print = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let result = match (cli.command, cli.serve) {
        (Some(Command::Check { file }), _) => check(&file),
        (Some(Command::Convert { file }), _) => {
            convert(&file).map(|toml| print!("{toml}")).map_err(Into::into)
        }
        (None, Some(serve)) => run(&serve),
        (None, None) => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(file: &std::path::Path) -> anyhow::Result<()> {
    print!("{}", check_report(&Config::load(file, &process_environment)?));
    Ok(())
}

fn run(serve: &Serve) -> anyhow::Result<()> {
    let verbosity = Verbosity { verbose: serve.verbose, quiet: serve.quiet };
    app::runtime()?.block_on(app::run(&serve.file, verbosity))?;
    Ok(())
}
