//! The `pgweir` program: arguments, then [`pgweir::app::run`].

use clap::{Args, Parser, Subcommand};
use mimalloc::MiMalloc;
use pgweir::app::{self, Role, Verbosity, Wishes};
use pgweir::config::{Config, check_report, convert, process_environment};
use pgweir::demo::{self, After, Show};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Of the allocators measured it gives back most of what a storm of clients has needed (docs/architecture.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
    /// Run in the background; needs `pidfile`. Returns when the process listens.
    #[arg(short, long)]
    daemon: bool,
    /// Log nothing to standard error.
    #[arg(short, long)]
    quiet: bool,
    /// Take the place of the process that runs with this configuration, without a failed connection.
    #[arg(short = 'R', long, visible_alias = "reboot")]
    takeover: bool,
    /// Become this user, in place of the configuration's.
    #[arg(short, long, value_name = "NAME")]
    user: Option<String>,
    /// Log more; may be given twice.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Of PgBouncer for Windows.
    #[arg(long, hide = true, num_args = 0..=1)]
    regservice: Option<Option<String>>,
    /// Of PgBouncer for Windows.
    #[arg(long, hide = true, num_args = 0..=1)]
    unregservice: Option<Option<String>>,
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
    /// Start a throwaway PostgreSQL with pgweir before it, and show a load on both.
    Demo(Demo),
}

#[derive(Debug, Args)]
struct Demo {
    /// Clients at a time.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Server connections that they share.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    servers: u32,
    /// How long the load lasts.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// End after the load instead of waiting for Ctrl-C; so it is too when the output is no terminal.
    #[arg(long)]
    exit: bool,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // What `SHOW VERSION` answers, as PgBouncer has it.
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayVersion => {
            println!("{}", pgweir::session::VERSION);
            return ExitCode::SUCCESS;
        }
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
        (Some(Command::Demo(demo)), _) => show(&demo),
        (None, Some(serve)) => return run(&serve),
        (None, None) => Ok(()),
    };
    exit_code(result)
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(file: &std::path::Path) -> anyhow::Result<()> {
    let loaded = Config::load(file, &process_environment)?;
    print!("{}", check_report(&loaded));
    print!("{}", app::rules_report(&loaded.config)?);
    Ok(())
}

fn run(serve: &Serve) -> ExitCode {
    if serve.regservice.is_some() || serve.unregservice.is_some() {
        eprintln!(
            "--regservice and --unregservice are of PgBouncer for Windows; there are no such services here"
        );
        return ExitCode::FAILURE;
    }
    if serve.daemon && Role::of_this_process() == Role::Parent {
        return app::start_and_wait().unwrap_or_else(|error| {
            eprintln!("cannot start in the background: {error}");
            ExitCode::FAILURE
        });
    }
    let wishes = Wishes {
        verbosity: Verbosity { verbose: serve.verbose, quiet: serve.quiet },
        user: serve.user.as_deref(),
        daemon: serve.daemon,
        takeover: serve.takeover,
    };
    exit_code(app::runtime().map_err(Into::into).and_then(|runtime| {
        let result = runtime.block_on(app::run(&serve.file, wishes));
        // Whoever still reads a file, or waits for a name server, does not keep the process.
        runtime.shutdown_background();
        result.map_err(Into::into)
    }))
}

fn show(demo: &Demo) -> anyhow::Result<()> {
    let ends = demo.exit || !std::io::stdout().is_terminal();
    let show = Show {
        clients: demo.clients,
        servers: demo.servers,
        length: Duration::from_secs(demo.seconds),
        after: if ends { After::Exit } else { After::Stay },
    };
    app::runtime()?.block_on(demo::run(show))?;
    Ok(())
}
