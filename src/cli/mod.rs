//! The command line: what can be asked for, and the exit code that answers.
//!
//! Each group of commands has a file. They get their streams and the environment handed in, so that tests run them in
//! process; only [`main`] touches the process itself. Nothing here decides about identities or tokens.

mod audit;
mod chat;
mod check;
mod delivery;
#[cfg(feature = "emulator")]
mod dev;
mod doctor;
mod email;
mod event;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod health;
mod identity;
mod lines;
mod output;
#[cfg(feature = "emulator")]
mod paste;
mod remote;
mod rotation;
mod serve;
mod settings;
mod sms;
mod token;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufReader, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use self::output::{Exit, Io, Stop};

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 wrong command line or settings; 3 not found; \
                          4 not now, the same command may succeed later.";

/// A gRPC broker for Azure Communication Services: identities, access tokens and messages.
#[derive(Debug, Parser)]
#[command(name = "acs-broker", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker, an emulator of ACS and a store in one process, on this machine: nothing to set up.
    #[cfg(feature = "emulator")]
    Dev(dev::Dev),
    /// Run the broker.
    Serve(serve::Serve),
    /// Run the emulator of ACS alone.
    #[cfg(feature = "emulator")]
    Emulator(dev::Emulator),
    /// Check the settings and print them, secrets masked. Starts nothing.
    CheckConfig(check::CheckConfig),
    /// Check audit files, and find somebody in them.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Look at everything a broker needs (credential, clock, store) and say what to do about what is wrong.
    Doctor(doctor::Doctor),
    /// Ask a running broker whether the ACS key that is not in use may be regenerated. Exit code 0 or 4.
    Rotation(rotation::Rotation),
    /// Ask a running broker whether it serves; for container health checks. Exit code 0 or 1.
    Healthcheck(health::Healthcheck),
    /// Issue, refresh and revoke access tokens.
    #[command(subcommand)]
    Token(token::Command),
    /// Look up, create, delete, import and export identities.
    #[command(subcommand)]
    Identity(identity::Command),
    /// Send SMS, ask what became of them, and look after opt-outs.
    #[command(subcommand)]
    Sms(sms::Command),
    /// Send e-mail and ask what became of it.
    #[command(subcommand)]
    Email(email::Command),
    /// Watch what happens to messages and in chat threads.
    #[command(subcommand)]
    Event(event::Command),
    /// Create threads, change who is in them, send and read messages, as an app user or as the broker itself.
    #[command(subcommand)]
    Chat(chat::Command),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // A name or value that is not UTF-8 is replaced in part; `config` refuses such a value.
    let environment = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    let mut io = Io {
        input: Box::new(BufReader::new(std::io::stdin())),
        out: Box::new(BufWriter::new(std::io::stdout())),
        err: Box::new(std::io::stderr()),
    };
    ExitCode::from(run(std::env::args_os(), &environment, &mut io) as u8)
}

/// Runs a command line with these arguments, the program's name first.
fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &BTreeMap<String, String>,
    io: &mut Io<'_>,
) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let to = if error.use_stderr() { &mut io.err } else { &mut io.out };
            // Nobody to tell if the stream is closed.
            let _ = write!(to, "{}", error.render());
            let _ = io.out.flush();
            return if error.use_stderr() { Exit::Usage } else { Exit::Success };
        }
    };
    let as_json = match &cli.command {
        Command::Audit(command) => command.json(),
        Command::Token(command) => command.remote().json,
        Command::Identity(command) => command.remote().json,
        Command::Sms(command) => command.remote().json,
        Command::Email(command) => command.remote().json,
        Command::Event(command) => command.remote().json,
        Command::Chat(command) => command.remote().json,
        _ => false,
    };
    let ended = match &cli.command {
        #[cfg(feature = "emulator")]
        Command::Dev(command) => command.run(environment, io),
        Command::Serve(command) => command.run(environment),
        #[cfg(feature = "emulator")]
        Command::Emulator(command) => command.run(environment, io),
        Command::CheckConfig(command) => command.run(environment, io),
        Command::Audit(command) => command.run(io),
        Command::Healthcheck(command) => command.run(environment, io),
        Command::Doctor(command) => command.run(environment, io),
        Command::Rotation(command) => command.run(environment, io),
        Command::Token(command) => one_call(command.run(io)),
        Command::Identity(command) => one_call(command.run(io)),
        Command::Sms(command) => one_call(command.run(io)),
        Command::Email(command) => one_call(command.run(io)),
        Command::Event(command) => one_call(command.run(io)),
        Command::Chat(command) => one_call(command.run(io)),
    };
    let ended = ended.and_then(|exit| io.out.flush().map(|()| exit).map_err(Stop::from));
    match ended {
        Ok(exit) => exit,
        Err(stop) => {
            let _ = io.out.flush();
            stop.tell(&mut io.err, as_json)
        }
    }
}

/// Runs a client command; one thread is plenty.
fn one_call(command: impl Future<Output = Result<Exit, Stop>>) -> Result<Exit, Stop> {
    block_on(&mut tokio::runtime::Builder::new_current_thread(), command)
}

/// Runs a server command on every core.
fn to_the_end(command: impl Future<Output = Result<Exit, Stop>>) -> Result<Exit, Stop> {
    block_on(&mut tokio::runtime::Builder::new_multi_thread(), command)
}

/// Runs something short whose answer the command still has to tell.
fn one_call_for<T>(command: impl Future<Output = T>) -> Result<T, Stop> {
    block_on(&mut tokio::runtime::Builder::new_current_thread(), async { Ok(command.await) })
}

fn block_on<T>(
    builder: &mut tokio::runtime::Builder,
    command: impl Future<Output = Result<T, Stop>>,
) -> Result<T, Stop> {
    /// Dropping a runtime waits for its blocking tasks without end.
    const LEFTOVERS_WITHIN: Duration = Duration::from_secs(1);
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Stop::Because(Exit::Failure, format!("cannot start threads ({})", error.kind())))?;
    let ended = runtime.block_on(command);
    runtime.shutdown_timeout(LEFTOVERS_WITHIN);
    ended
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn no_flag_stands_in_the_way_of_another() {
        super::Cli::command().debug_assert();
    }
}
