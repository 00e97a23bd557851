//! The folder that all files of the demo are in.

use super::error::DemoError;
use super::installation::{Installation, Servant};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

/// A Unix socket's path has room for about a hundred bytes; a longer temporary folder is not used.
const LONGEST: usize = 60;

/// A folder that is closed to other users, and removed on drop.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    servant: Option<Servant>,
}

impl Folder {
    /// Makes it. Where this process is root, it belongs to the user that PostgreSQL will run as.
    pub(super) fn create(installation: &Installation) -> Result<Self, DemoError> {
        let path = base().join(format!("pgweir-demo-{}", std::process::id()));
        let failed = || DemoError::system(format!("make the folder {}", path.display()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed())?;
        // From here on it is removed, whatever happens.
        let mut folder = Self { path: path.clone(), servant: None };
        let is_root = std::fs::metadata(&path).map_err(failed())?.uid() == 0;
        if is_root {
            let servant = installation.servant()?;
            chown(&path, Some(servant.user), Some(servant.group)).map_err(failed())?;
            folder.servant = Some(servant);
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whom PostgreSQL and pgweir have to run as, where that is somebody else.
    pub(super) fn servant(&self) -> Option<Servant> {
        self.servant
    }

    /// Writes a file into it.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, DemoError> {
        let path = self.path.join(name);
        let failed = || DemoError::system(format!("write {}", path.display()));
        std::fs::write(&path, text).map_err(failed())?;
        if let Some(servant) = self.servant {
            chown(&path, Some(servant.user), Some(servant.group)).map_err(failed())?;
        }
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn base() -> PathBuf {
    let usual = std::env::temp_dir();
    if usual.as_os_str().len() <= LONGEST { usual } else { PathBuf::from("/tmp") }
}
