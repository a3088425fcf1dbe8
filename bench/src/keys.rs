//! Keys of encryption at rest, for one run.

use std::io::Write;

use anyhow::Result;
use storage::Keys;
use storage::keys::new_key;
use storage_core::key_file::{self, NamedKey};

/// One new key; none where nothing is to be encrypted.
pub fn keys(encrypted: bool) -> Result<Keys> {
    if !encrypted {
        return Ok(Keys::default());
    }
    let mut file = tempfile::NamedTempFile::new()?;
    let key = NamedKey { name: "bench".parse()?, bytes: new_key()? };
    file.write_all(key_file::line(&key).as_bytes())?;
    Ok(Keys::load(file.path())?)
}
