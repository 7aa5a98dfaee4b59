//! `dev` and `emulator`: everything on this machine, nothing in the cloud.
//!
//! They print the emulator's connection string, because its key is made up at every start and opens nothing else.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::output::{Exit, Io, Stop};
use super::paste::{self, quoted};
use super::remote::DEFAULT_SERVER;
use super::serve::stop_on_signal;
use super::settings::{self, flag};
use crate::app::StartError;
use crate::app::dev::{self, Whereabouts};
use crate::clock::SystemClock;
use crate::config::{Given, Purpose, Source};
use crate::secret::Secret;
use crate::{emulator, webhook};

/// Where the emulator listens.
#[derive(Debug, Args)]
struct EmulatorAddresses {
    /// Where the emulator serves HTTP. Default: 127.0.0.1:8082.
    #[arg(long, value_name = "ADDRESS")]
    emulator_addr: Option<String>,
    /// Where the emulator serves HTTPS. Default: 127.0.0.1:8083.
    #[arg(long, value_name = "ADDRESS")]
    emulator_tls_addr: Option<String>,
    /// Keep data here, made if it does not exist: the CA file, and with `dev` the store. Default: a new folder that
    /// goes when the process ends.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Once everything is served, write the addresses and connection strings to this file as JSON.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

impl EmulatorAddresses {
    fn flags(&self) -> [Option<Given>; 2] {
        [
            flag("emulator.address", "--emulator-addr", self.emulator_addr.as_deref()),
            flag("emulator.tls_address", "--emulator-tls-addr", self.emulator_tls_addr.as_deref()),
        ]
    }
}

/// `dev`.
#[derive(Debug, Args)]
pub(super) struct Dev {
    /// Where the gRPC API listens. Default: 127.0.0.1:50051.
    #[arg(long, value_name = "ADDRESS")]
    grpc_addr: Option<String>,
    /// Where /livez, /readyz and /metrics are served. Default: 127.0.0.1:8081.
    #[arg(long, value_name = "ADDRESS")]
    admin_addr: Option<String>,
    #[command(flatten)]
    emulator: EmulatorAddresses,
    /// Keep mapping and tokens in this Redis instead of an embedded file.
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
}

/// `emulator`.
#[derive(Debug, Args)]
pub(super) struct Emulator {
    #[command(flatten)]
    addresses: EmulatorAddresses,
    /// Let other machines reach the emulator.
    #[arg(long)]
    allow_off_loopback: bool,
    /// Let other machines use the control API and read the inbox, if they bring the token that is in this file.
    #[arg(long, value_name = "FILE")]
    control_token_file: Option<PathBuf>,
}

fn presumed(key: &'static str, value: &str, command: &'static str) -> Given {
    Given { key, value: value.into(), source: Source::Command(command) }
}

impl Dev {
    pub(super) fn run(&self, environment: &BTreeMap<String, String>, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let data = DataDir::open(self.emulator.data_dir.as_deref())?;
        let store = data.path.join("acs-broker.redb").to_string_lossy().into_owned();
        let presumed = [
            presumed("server.reflection", "true", "dev"),
            presumed("telemetry.format", "pretty", "dev"),
            presumed("store.embedded.path", &store, "dev"),
            presumed("webhook.address", "127.0.0.1:0", "dev"),
            presumed("messages.sms.senders", &senders(environment), "dev"),
            presumed("messages.email.senders", "noreply@contoso.example", "dev"),
        ];
        let backend = self.redis_url.as_ref().map(|_| "redis");
        let flags: Vec<_> = [
            flag("server.address", "--grpc-addr", self.grpc_addr.as_deref()),
            flag("admin.address", "--admin-addr", self.admin_addr.as_deref()),
            flag("store.redis.url", "--redis-url", self.redis_url.as_deref()),
            flag("store.backend", "--redis-url", backend),
        ]
        .into_iter()
        .chain(self.emulator.flags())
        .flatten()
        .collect();
        let config = settings::load(Purpose::Dev, &presumed, None, environment, &flags)?;
        let _logging = settings::start_logging(&config)?;
        let ready_file = ReadyFile::at(self.emulator.ready_file.as_deref())?;
        super::to_the_end(async {
            let stop = stop_on_signal()?;
            let dev = dev::Dev::start(config, &data.path, Arc::new(SystemClock)).await.map_err(explain)?;
            let whereabouts = dev.whereabouts();
            let (readiness, not_adopted) = (dev.app().readiness().clone(), dev.not_adopted);
            let mut running = tokio::spawn(dev.run(stop));
            let ended = tokio::select! {
                ended = &mut running => ended,
                () = readiness.wait_for(true) => {
                    ready_file.write(&whereabouts)?;
                    welcome(io, &whereabouts, &data)?;
                    if not_adopted > 0 {
                        writeln!(io.err, "{not_adopted} identities of the mapping are unknown to the emulator")?;
                    }
                    io.out.flush()?;
                    running.await
                }
            };
            ended.map_err(|_| Stop::Because(Exit::Failure, "the server ended by a bug".into()))??;
            Ok(Exit::Success)
        })
    }
}

impl Emulator {
    pub(super) fn run(&self, environment: &BTreeMap<String, String>, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let control_token = self.control_token_file.as_deref().map(control_token).transpose()?;
        let data = DataDir::open(self.addresses.data_dir.as_deref())?;
        let presumed = [presumed("telemetry.format", "pretty", "emulator")];
        let flags: Vec<_> = self.addresses.flags().into_iter().flatten().collect();
        let config = settings::load(Purpose::Emulator, &presumed, None, environment, &flags)?;
        let _logging = settings::start_logging(&config)?;
        let ready_file = ReadyFile::at(self.addresses.ready_file.as_deref())?;
        super::to_the_end(async {
            let stop = stop_on_signal()?;
            let settings = emulator::Settings {
                data_dir: Some(data.path.clone()),
                allow_off_loopback: self.allow_off_loopback,
                control_token,
                ..config.emulator
            };
            let sms_sender = settings.senders.split(',').next().unwrap_or_default().trim().to_owned();
            let emulator = emulator::start(settings, Arc::new(SystemClock))
                .await
                .map_err(|error| explain(error.into()))?;
            let whereabouts = Whereabouts::of_emulator(&emulator);
            ready_file.write(&whereabouts)?;
            writeln!(io.out, "The ACS emulator is running.\n")?;
            print_emulator(io, &whereabouts)?;
            print_commands(io, &whereabouts, &sms_sender)?;
            writeln!(io.out, "\nStop it with Ctrl-C.")?;
            io.out.flush()?;
            stop.cancelled().await;
            emulator.shutdown().await;
            Ok(Exit::Success)
        })
    }
}

/// What the emulated resource owns, unless it is set otherwise.
fn senders(environment: &BTreeMap<String, String>) -> String {
    let set = environment.get("ACS_BROKER__EMULATOR__SENDERS").filter(|text| !text.is_empty());
    set.cloned().unwrap_or_else(|| emulator::Settings::default().senders)
}

/// The token in a file, without the line break that editors add.
fn control_token(path: &Path) -> Result<Secret, Stop> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let what = format!("cannot read {} ({}); see --control-token-file", path.display(), error.kind());
        Stop::Because(Exit::Failure, what)
    })?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let what = format!("{} must hold one word of ASCII; see --control-token-file", path.display());
        return Err(Stop::Because(Exit::Usage, what));
    }
    Ok(Secret::new(token))
}

/// Says which flag mends a failed start of the emulator.
fn explain(error: StartError) -> Stop {
    let mend = match &error {
        StartError::Emulator(emulator::StartError::Bind { setting, .. })
            if *setting == "emulator.address" =>
        {
            "; change it with --emulator-addr"
        }
        StartError::Emulator(emulator::StartError::Bind { .. }) => "; change it with --emulator-tls-addr",
        StartError::Emulator(emulator::StartError::OffLoopback { .. }) => {
            "; `acs-broker emulator` has --allow-off-loopback"
        }
        _ => "",
    };
    match Stop::from(error) {
        Stop::Because(exit, text) => Stop::Because(exit, text + mend),
        other => other,
    }
}

fn welcome(io: &mut Io<'_>, whereabouts: &Whereabouts, data: &DataDir) -> Result<(), Stop> {
    let (Some(grpc), Some(admin)) = (whereabouts.grpc, whereabouts.admin) else { return Ok(()) };
    writeln!(
        io.out,
        "acs-broker is running on this machine, with an emulator of ACS instead of the cloud.\n"
    )?;
    writeln!(io.out, "  gRPC               {grpc}")?;
    writeln!(io.out, "  admin              http://{admin}  (/livez /readyz /metrics)")?;
    if let Some(webhook) = whereabouts.webhook {
        writeln!(
            io.out,
            "  webhook            http://{webhook}{}  (the emulator posts there)",
            webhook::PATH
        )?;
    }
    print_emulator(io, whereabouts)?;
    let kept = if data.temporary { "gone when this ends; keep it with --data-dir" } else { "kept" };
    writeln!(io.out, "  data               {}  ({kept})", data.path.display())?;
    writeln!(io.out, "\nGet a token for your own user id:\n")?;
    writeln!(io.out, "  {}\n", first_command(&program(), grpc))?;
    writeln!(io.out, "Stop it with Ctrl-C.")?;
    Ok(())
}

fn print_emulator(io: &mut Io<'_>, whereabouts: &Whereabouts) -> Result<(), Stop> {
    writeln!(io.out, "  emulator           http://{}", whereabouts.emulator)?;
    writeln!(io.out, "  emulator, HTTPS    https://{}", whereabouts.emulator_tls)?;
    writeln!(io.out, "  connection string  {}", whereabouts.connection_string)?;
    writeln!(io.out, "  over HTTPS         {}", whereabouts.connection_string_tls)?;
    writeln!(io.out, "  CA file            {}", whereabouts.ca_file.display())?;
    writeln!(io.out, "  inbox              {}", whereabouts.inbox)?;
    Ok(())
}

fn print_commands(io: &mut Io<'_>, whereabouts: &Whereabouts, sms_sender: &str) -> Result<(), Stop> {
    let places = paste::Places {
        connection_string: &whereabouts.connection_string_tls,
        ca_file: &whereabouts.ca_file,
        sms_sender,
    };
    writeln!(
        io.out,
        "\nEach of these lines, pasted into a shell, makes a user or sends a message to the inbox."
    )?;
    for (language, packages, commands) in
        [("Python", paste::PYTHON, places.python()), ("JavaScript", paste::JAVASCRIPT, places.javascript())]
    {
        writeln!(io.out, "\n{language} ({packages}):")?;
        for (name, command) in ["identity", "SMS", "e-mail", "chat"].into_iter().zip(commands) {
            writeln!(io.out, "\n  # {name}\n  {command}")?;
        }
    }
    Ok(())
}

/// The command to paste. It names the server only if it is not where every client looks first.
fn first_command(program: &str, grpc: SocketAddr) -> String {
    let server = format!("http://{grpc}");
    let server = if server == DEFAULT_SERVER { String::new() } else { format!(" --server {server}") };
    format!("{} token issue alice --scope chat{server}", quoted(program))
}

/// This program, as short as it can be typed from here.
fn program() -> String {
    let Ok(path) = std::env::current_exe() else { return "acs-broker".into() };
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    match short {
        Some(short) if short.components().count() > 1 => short.display().to_string(),
        Some(short) => format!("./{}", short.display()),
        None => path.display().to_string(),
    }
}

/// The folder for the data of this run; a temporary one is removed when this is dropped.
struct DataDir {
    path: PathBuf,
    temporary: bool,
}

impl DataDir {
    fn open(kept: Option<&Path>) -> Result<Self, Stop> {
        let (path, temporary) = match kept {
            Some(path) => (path.to_owned(), false),
            None => {
                let name = format!("acs-broker-dev-{}", uuid::Uuid::new_v4().simple());
                (std::env::temp_dir().join(name), true)
            }
        };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(!temporary);
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt;
            builder.mode(0o700);
        }
        builder.create(&path).map_err(|error| {
            let what = format!("cannot make the folder {} ({})", path.display(), error.kind());
            Stop::Because(Exit::Failure, format!("{what}; choose another with --data-dir"))
        })?;
        Ok(Self { path, temporary })
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.temporary {
            // What is left is in the system's folder for temporary files.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The file that says where everything is, while it is there.
struct ReadyFile(Option<PathBuf>);

impl ReadyFile {
    /// A file of an earlier run must not pass for this one's.
    fn at(path: Option<&Path>) -> Result<Self, Stop> {
        if let Some(path) = path {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let what =
                        format!("cannot replace {} ({}); see --ready-file", path.display(), error.kind());
                    return Err(Stop::Because(Exit::Failure, what));
                }
                _ => {}
            }
        }
        Ok(Self(path.map(Path::to_owned)))
    }

    /// Appears complete or not at all.
    fn write(&self, whereabouts: &Whereabouts) -> Result<(), Stop> {
        let Some(path) = &self.0 else { return Ok(()) };
        let cannot = |error: std::io::Error| {
            let what = format!("cannot write {} ({}); see --ready-file", path.display(), error.kind());
            Stop::Because(Exit::Failure, what)
        };
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(".tmp");
        let text = serde_json::to_string(whereabouts).map_err(|error| cannot(error.into()))?;
        std::fs::write(&unfinished, text + "\n").map_err(cannot)?;
        std::fs::rename(&unfinished, path).map_err(cannot)
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_paste_names_the_server_only_if_it_must() {
        let at = |text: &str| first_command("target/debug/acs-broker", text.parse().unwrap());
        assert_eq!(at("127.0.0.1:50051"), "target/debug/acs-broker token issue alice --scope chat");
        assert_eq!(
            at("127.0.0.1:7"),
            "target/debug/acs-broker token issue alice --scope chat --server http://127.0.0.1:7"
        );
    }

    #[test]
    fn a_temporary_folder_goes_and_a_kept_one_stays() {
        let temporary = DataDir::open(None).unwrap();
        let path = temporary.path.clone();
        assert!(path.is_dir());
        drop(temporary);
        assert!(!path.exists());
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("a/b");
        drop(DataDir::open(Some(&kept)).unwrap());
        assert!(kept.is_dir());
    }
}
