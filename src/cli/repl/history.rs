//! The history, in the user's folder for data. Statements with secrets are not kept.

use std::path::PathBuf;

use thalweg_session::Session;
use thalweg_session::plan::mask_secrets;

/// The file, whose folder is made; `None`: there is no place for it.
pub fn file() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let data = given.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")))?;
    let folder = data.join("thalweg");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

/// Whether a text may be written to the file.
pub fn is_kept(text: &str, session: &Session) -> bool {
    mask_secrets(text, &|connector, key| session.is_secret(connector, key)) == text
}
