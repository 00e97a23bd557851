//! The files of `auth_type = hba`: who is asked for what, by where they come from.

use crate::auth::hba::{Flaw, Hba, IdentMaps, parse};
use crate::config::{Auth, AuthMethod, Config};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Why the rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// There is no file to read.
    #[error("auth_type = hba needs auth_hba_file")]
    Missing,
    /// A file cannot be read.
    #[error("{key} {}: {reason}", path.display())]
    Unreadable {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Without these lines somebody would come in who was to stay out.
    #[error("{}", .0.join("\n"))]
    Grave(Vec<String>),
}

/// The rules, and what there is to say about them.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) hba: Hba,
    /// Lines that are left out, each with its file.
    pub(super) remarks: Vec<String>,
}

impl Rules {
    /// Reads the files; nothing is read where no rules are asked for.
    pub(super) fn load(auth: &Auth) -> Result<Self, RulesError> {
        if auth.method != AuthMethod::Hba {
            return Ok(Self::default());
        }
        let path = auth.hba_file.as_deref().ok_or(RulesError::Missing)?;
        let (maps, mut remarks) = match &auth.ident_file {
            None => (IdentMaps::default(), Vec::new()),
            Some(path) => {
                let (maps, flaws) = IdentMaps::parse(&read("auth_ident_file", path)?);
                (maps, told(path, &flaws))
            }
        };
        let text = read("auth_hba_file", path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let include =
            |name: &str| std::fs::read_to_string(folder.join(name)).map_err(|error| error.to_string());
        let parsed = parse(&text, &maps, &include);
        let (grave, harmless): (Vec<_>, Vec<_>) = parsed.flaws.into_iter().partition(|flaw| flaw.is_grave);
        if !grave.is_empty() {
            let why = "without this line somebody would come in who was to stay out";
            let told =
                grave.iter().map(|flaw| format!("{}:{}: {}; {why}", path.display(), flaw.line, flaw.what));
            return Err(RulesError::Grave(told.collect()));
        }
        remarks.extend(told(path, &harmless));
        Ok(Self { hba: parsed.hba, remarks })
    }
}

fn read(key: &'static str, path: &Path) -> Result<String, RulesError> {
    std::fs::read_to_string(path).map_err(|error| RulesError::Unreadable {
        key,
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn told(path: &Path, flaws: &[Flaw]) -> Vec<String> {
    let line = |flaw: &Flaw| {
        format!("{}:{}: {}; the line is left out, as by PgBouncer", path.display(), flaw.line, flaw.what)
    };
    flaws.iter().map(line).collect()
}

/// What the rules of a configuration came to, for `check`; empty where it has none.
///
/// # Errors
///
/// [`RulesError`], as at a start.
pub fn rules_report(config: &Config) -> Result<String, RulesError> {
    let rules = Rules::load(&config.auth)?;
    let mut report = String::new();
    if config.auth.method != AuthMethod::Hba {
        return Ok(report);
    }
    // Writing into a String cannot fail.
    let _ = writeln!(report, "\nrules of auth_hba_file, the first that fits decides");
    for rule in rules.hba.rules() {
        let _ = writeln!(report, "{:>5}: {rule}", rule.line());
    }
    if rules.hba.rules().is_empty() {
        let _ = writeln!(report, "none: nobody can log in");
    }
    for remark in &rules.remarks {
        let _ = writeln!(report, "{remark}");
    }
    Ok(report)
}
