//! The node's signing key (Ed25519, RFC 8032): made where there is none and never was, kept in `manifest/signing.key`, readable by
//! the owner only, with its public half beside it. Both files are in the forms that `openssl` reads (DER; RFC
//! 8410). What is signed is decided elsewhere.

use std::fmt;
use std::io;
use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use storage_core::hex;
use storage_core::naming::MANIFEST_FOLDER;
use zeroize::Zeroizing;

use crate::disk::{Disk, read_whole, write_all_at};

/// The private key, below the data folder's `manifest`.
pub const KEY_FILE: &str = "signing.key";
/// The public key beside it.
pub const PUBLIC_FILE: &str = "node.der";
const NEW_FILE: &str = "signing.new";
/// What stands before the 32 bytes of a private key (RFC 8410, 7).
const PRIVATE: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// What stands before the 32 bytes of a public key (RFC 8410, 4).
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
const FILE_BYTES_MAX: usize = 4096;
const LOST: &str = "manifest/signing.key is gone, and its public half manifest/node.der is there";

fn is_there(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A key that signs. Its `Debug` shows the public half only.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public()).finish()
    }
}

impl SigningKey {
    /// The key of a data folder; the first time it is made. Where its public half lies there already, the key was lost,
    /// and none is made: whoever compares would take that for somebody else's work.
    ///
    /// # Errors
    /// If it cannot be read or written; `InvalidData` if the file is no such key, `NotFound` if it was lost.
    pub fn open(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        let folder = dir.join(MANIFEST_FOLDER);
        disk.make_folder(&folder)?;
        let path = folder.join(KEY_FILE);
        let key = match read_whole(disk, &path, FILE_BYTES_MAX) {
            Ok(bytes) => Self::from_der(&Zeroizing::new(bytes))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if is_there(disk, &folder.join(PUBLIC_FILE))? {
                    return Err(io::Error::new(io::ErrorKind::NotFound, LOST));
                }
                let mut seed = Zeroizing::new([0; 32]);
                getrandom::fill(&mut *seed).map_err(io::Error::other)?;
                let der = Zeroizing::new([&PRIVATE[..], &*seed].concat());
                let key = Self::from_der(&der)?;
                let new = folder.join(NEW_FILE);
                let file = disk.create_private(&new)?;
                write_all_at(&*file, &der, 0).map_err(|(_, error)| error)?;
                file.sync()?;
                disk.rename(&new, &path)?;
                // Before its public half, which tells that there is one.
                disk.sync_folder(&folder)?;
                key
            }
            Err(error) => return Err(error),
        };
        let public = disk.create(&folder.join(PUBLIC_FILE))?;
        write_all_at(&*public, &key.public().der(), 0).map_err(|(_, error)| error)?;
        public.sync()?;
        disk.sync_folder(&folder)?;
        Ok(key)
    }

    fn from_der(der: &[u8]) -> io::Result<Self> {
        let pair = der.strip_prefix(&PRIVATE).and_then(|seed| {
            // Of a seed of 32 bytes there always is one.
            Ed25519KeyPair::from_seed_unchecked(seed).ok()
        });
        let pair = pair.ok_or_else(|| {
            let what = format!("{MANIFEST_FOLDER}/{KEY_FILE} is no signing key");
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        Ok(Self { pair })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// The signature of a text.
    #[must_use]
    pub fn sign(&self, text: &str) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        signature
    }
}

/// The key by which signatures are checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl PublicKey {
    /// Reads the form that `openssl` has.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Option<Self> {
        Some(Self(der.strip_prefix(&PUBLIC)?.try_into().ok()?))
    }

    /// The form that `openssl` has.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        [&PUBLIC[..], &self.0].concat()
    }

    /// Whether it is this key's signature of this text.
    #[must_use]
    pub fn has_signed(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(text.as_bytes(), signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::shared();
        let key = SigningKey::open(&*disk, dir.path()).unwrap();
        let again = SigningKey::open(&*disk, dir.path()).unwrap();
        assert_eq!(key.public(), again.public());
        let path = dir.path().join(MANIFEST_FOLDER).join(KEY_FILE);
        let der = std::fs::read(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{key:?}").contains(&hex::encode(&der[16..])));
        let signature = key.sign("a");
        assert!(again.public().has_signed("a", &signature));
        assert!(!again.public().has_signed("b", &signature));
        let beside = std::fs::read(dir.path().join(MANIFEST_FOLDER).join(PUBLIC_FILE)).unwrap();
        assert_eq!(PublicKey::from_der(&beside), Some(key.public()));
        std::fs::write(&path, "no key").unwrap();
        let error = SigningKey::open(&*disk, dir.path()).unwrap_err();
        assert!(error.to_string().contains("is no signing key"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = SigningKey::open(&*disk, dir.path()).unwrap_err();
        assert!(error.to_string().contains("is gone"), "{error}");
        assert!(!path.exists(), "none is made in its place");
        std::fs::remove_file(path.with_file_name(PUBLIC_FILE)).unwrap();
        let new = SigningKey::open(&*disk, dir.path()).unwrap();
        assert_ne!(new.public(), key.public());
    }
}
