//! The keys of encryption at rest: loads a key file, makes data keys, wraps and unwraps them. How a key
//! file and a wrapped key look is in [`storage_core::key_file`] and [`storage_core::wrapped_key`].
//!
//! Which keys a node has is its own matter: what goes to another node is decrypted here and encrypted
//! again there.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use storage_core::cipher_file::TAG_BYTES;
use storage_core::journal_cipher::CipherRefused;
use storage_core::key_file::{self, KEY_BYTES, KeyBytes, KeyFileFault, KeyName, NamedKey};
use storage_core::wrapped_key::{KeyUse, NONCE_BYTES, WRAPPED_BYTES, WrappedKey};
use zeroize::Zeroizing;

/// No key file is longer than this.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Permission bit of a file.
const OTHERS_MAY_READ: u32 = 0o004;

/// Why a key file gives no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is no text, or far longer than any.
    #[error("is no key file: it is to be text of {FILE_BYTES_MAX} bytes at most")]
    NotText,
    /// Something in it is wrong.
    #[error("is wrong: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Faults(Vec<KeyFileFault>),
}

/// Why a data key cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There are no keys at all.
    #[error("key \"{name}\" is needed, and no key file is given: name it (al_encryptionkeyfile)")]
    NoKeyFile {
        /// The key that is needed.
        name: KeyName,
    },
    /// This one is not among them.
    #[error("key \"{name}\" is needed, and {} does not hold it: put its line back below the first", file.display())]
    Unknown {
        /// The key that is needed.
        name: KeyName,
        /// The key file.
        file: PathBuf,
    },
    /// The key of that name is another one, or what it has wrapped was altered.
    #[error("key \"{name}\" in {} does not fit: it is another key than the one that was used, or the data key was altered", file.display())]
    Wrong {
        /// The key that was tried.
        name: KeyName,
        /// The key file.
        file: PathBuf,
    },
    /// The machine does not do its part.
    #[error("this machine gives no random bytes, or does not encrypt")]
    System,
}

/// The keys of this node; none if it does not encrypt. Cheap to clone.
#[derive(Clone, Default)]
pub struct Keys(Option<Arc<Ring>>);

struct Ring {
    file: PathBuf,
    others_may_read: bool,
    /// The active one first.
    keys: Vec<(KeyName, Cipher)>,
}

/// Names only.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Keys {
    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyFileError`]; none of the file's text is in it.
    pub fn load(file: &Path) -> Result<Self, KeyFileError> {
        let mut opened = File::open(file)?;
        let mode = opened.metadata()?.permissions().mode();
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        let read = (&mut opened).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        let text = std::str::from_utf8(&bytes).ok().filter(|_| read as u64 <= FILE_BYTES_MAX);
        let keys = key_file::parse(text.ok_or(KeyFileError::NotText)?);
        let keys = keys.map_err(KeyFileError::Faults)?;
        Ok(Self::new(file, mode & OTHERS_MAY_READ != 0, &keys))
    }

    fn new(file: &Path, others_may_read: bool, keys: &[NamedKey]) -> Self {
        let cipher = |key: &NamedKey| (key.name.clone(), Cipher::new(key.bytes.expose()));
        let keys = keys.iter().map(cipher).collect();
        Self(Some(Arc::new(Ring { file: file.to_owned(), others_may_read, keys })))
    }

    /// Whether what is written is encrypted.
    #[must_use]
    pub const fn encrypt(&self) -> bool {
        self.0.is_some()
    }

    /// Whether every user of this machine may read the key file.
    #[must_use]
    pub fn others_may_read(&self) -> bool {
        self.0.as_ref().is_some_and(|ring| ring.others_may_read)
    }

    /// The names of the keys, the active one first.
    pub fn names(&self) -> impl Iterator<Item = &KeyName> {
        self.0.iter().flat_map(|ring| ring.keys.iter().map(|(name, _)| name))
    }

    /// Makes a data key, and its wrapped form; `None` if this node does not encrypt.
    ///
    /// # Errors
    /// [`KeyError::System`].
    pub(crate) fn data_key(
        &self,
        made_for: &KeyUse,
    ) -> Result<Option<(Cipher, WrappedKey)>, KeyError> {
        let Some(ring) = &self.0 else { return Ok(None) };
        let bytes: Zeroizing<[u8; KEY_BYTES]> = Zeroizing::new(random()?);
        Ok(Some((Cipher::new(&bytes), ring.wrap(&bytes, made_for)?)))
    }

    /// The data key.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn unwrap(&self, key: &WrappedKey, made_for: &KeyUse) -> Result<Cipher, KeyError> {
        self.unwrap_bytes(key, made_for).map(|bytes| Cipher::new(&bytes))
    }

    /// The data key wrapped with the active key; `None` if it is already.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn rewrap(
        &self,
        key: &WrappedKey,
        made_for: &KeyUse,
    ) -> Result<Option<WrappedKey>, KeyError> {
        let bytes = self.unwrap_bytes(key, made_for)?;
        match &self.0 {
            Some(ring) if ring.keys.first().is_none_or(|(name, _)| *name != key.name) => {
                ring.wrap(&bytes, made_for).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn unwrap_bytes(
        &self,
        key: &WrappedKey,
        made_for: &KeyUse,
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
        let name = key.name.clone();
        let Some(ring) = &self.0 else { return Err(KeyError::NoKeyFile { name }) };
        let Some((_, cipher)) = ring.keys.iter().find(|(known, _)| *known == name) else {
            return Err(KeyError::Unknown { name, file: ring.file.clone() });
        };
        let mut bytes = Zeroizing::new(key.wrapped);
        let opened = cipher.open(key.nonce, made_for.associated().as_bytes(), &mut *bytes);
        opened.map_err(|CipherRefused| KeyError::Wrong { name, file: ring.file.clone() })?;
        let mut data_key = Zeroizing::new([0; KEY_BYTES]);
        data_key.copy_from_slice(&bytes[..KEY_BYTES]);
        Ok(data_key)
    }
}

impl Ring {
    fn wrap(&self, data_key: &[u8; KEY_BYTES], made_for: &KeyUse) -> Result<WrappedKey, KeyError> {
        let (name, cipher) = self.keys.first().ok_or(KeyError::System)?;
        let nonce: [u8; NONCE_BYTES] = random()?;
        let mut wrapped = Zeroizing::new([0; WRAPPED_BYTES]);
        let (key, tag) = wrapped.split_at_mut(KEY_BYTES);
        key.copy_from_slice(data_key);
        let sealed = cipher.seal(nonce, made_for.associated().as_bytes(), key);
        tag.copy_from_slice(&sealed.map_err(|CipherRefused| KeyError::System)?);
        Ok(WrappedKey { name: name.clone(), nonce, wrapped: *wrapped })
    }
}

/// A new key for a key file.
///
/// # Errors
/// [`KeyError::System`].
pub fn new_key() -> Result<KeyBytes, KeyError> {
    let bytes: Zeroizing<[u8; KEY_BYTES]> = Zeroizing::new(random()?);
    Ok(KeyBytes::new(*bytes))
}

/// Random bytes, of the quality that keys need. From the kernel: the generator of aws-lc measures its
/// first seed on each thread with the processor's jitter, and the media thread has no time for that.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| KeyError::System)?;
    Ok(bytes)
}

/// AES-256-GCM with one key. Whoever uses it sees to it that no nonce comes twice.
pub(crate) struct Cipher(LessSafeKey);

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(…)")
    }
}

impl Cipher {
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key);
        Self(LessSafeKey::new(key.expect("any 32 bytes are a key of AES-256")))
    }

    /// A key that nobody else will ever have.
    pub fn at_random() -> Result<Self, KeyError> {
        let bytes: Zeroizing<[u8; KEY_BYTES]> = Zeroizing::new(random()?);
        Ok(Self::new(&bytes))
    }

    /// Encrypts in place.
    pub fn seal(
        &self,
        nonce: [u8; NONCE_BYTES],
        associated: &[u8],
        bytes: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], CipherRefused> {
        let (nonce, associated) = (Nonce::assume_unique_for_key(nonce), Aad::from(associated));
        let tag = self.0.seal_in_place_separate_tag(nonce, associated, bytes);
        let tag = tag.map_err(|_| CipherRefused)?;
        tag.as_ref().try_into().map_err(|_| CipherRefused)
    }

    /// Decrypts in place; the tag is what `bytes` end with.
    pub fn open(
        &self,
        nonce: [u8; NONCE_BYTES],
        associated: &[u8],
        bytes: &mut [u8],
    ) -> Result<(), CipherRefused> {
        let (nonce, associated) = (Nonce::assume_unique_for_key(nonce), Aad::from(associated));
        let opened = self.0.open_in_place(nonce, associated, bytes);
        opened.map(|_| ()).map_err(|_| CipherRefused)
    }
}

#[cfg(test)]
mod tests {
    use storage_core::{RecordingId, SegmentId, WallTime};

    use super::*;

    fn keys(lines: &[(&str, u8)]) -> Keys {
        let key = |(name, byte): &(&str, u8)| {
            let mut bytes = [*byte; KEY_BYTES];
            bytes[0] = !byte;
            NamedKey { name: name.parse().unwrap(), bytes: KeyBytes::new(bytes) }
        };
        let keys: Vec<_> = lines.iter().map(key).collect();
        Keys::new(Path::new("/keys"), false, &keys)
    }

    fn made_for(segment: u64) -> KeyUse {
        let id = RecordingId::new(WallTime::from_millis(1), [7; 10]);
        KeyUse::Segment(id, SegmentId(segment))
    }

    #[test]
    fn a_data_key_is_unwrapped_by_the_key_it_names_and_for_its_use_only() {
        let (old, both) = (keys(&[("old", 1)]), keys(&[("new", 2), ("old", 1)]));
        let (cipher, wrapped) = old.data_key(&made_for(1)).unwrap().unwrap();
        let mut bytes = *b"words";
        let tag = cipher.seal([3; 12], b"about", &mut bytes).unwrap();
        assert_ne!(&bytes, b"words");
        let mut sealed = [&bytes[..], &tag].concat();
        let again = both.unwrap(&wrapped, &made_for(1)).unwrap();
        again.open([3; 12], b"about", &mut sealed).unwrap();
        assert_eq!(&sealed[..5], b"words");

        let name: KeyName = "old".parse().unwrap();
        let file = PathBuf::from("/keys");
        let wrong = KeyError::Wrong { name: name.clone(), file: file.clone() };
        assert_eq!(both.unwrap(&wrapped, &made_for(2)).unwrap_err(), wrong);
        assert_eq!(keys(&[("old", 9)]).unwrap(&wrapped, &made_for(1)).unwrap_err(), wrong);
        let unknown = KeyError::Unknown { name: name.clone(), file };
        assert_eq!(keys(&[("new", 2)]).unwrap(&wrapped, &made_for(1)).unwrap_err(), unknown);
        let none = KeyError::NoKeyFile { name };
        assert_eq!(Keys::default().unwrap(&wrapped, &made_for(1)).unwrap_err(), none);
        assert!(Keys::default().data_key(&made_for(1)).unwrap().is_none());
    }

    #[test]
    fn a_data_key_is_wrapped_anew_once() {
        let (old, both) = (keys(&[("old", 1)]), keys(&[("new", 2), ("old", 1)]));
        let (_, wrapped) = old.data_key(&made_for(1)).unwrap().unwrap();
        assert_eq!(old.rewrap(&wrapped, &made_for(1)), Ok(None));
        let anew = both.rewrap(&wrapped, &made_for(1)).unwrap().unwrap();
        assert_eq!(both.rewrap(&anew, &made_for(1)), Ok(None));
        let new = keys(&[("new", 2)]);
        assert_eq!(
            new.unwrap_bytes(&anew, &made_for(1)),
            old.unwrap_bytes(&wrapped, &made_for(1)),
            "the data key is the same"
        );
    }

    #[test]
    fn a_key_file_says_what_is_wrong_and_nothing_of_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        let digits = "0f".repeat(31) + "aa";
        std::fs::write(&file, format!("k {digits}\n")).unwrap();
        let loaded = Keys::load(&file).unwrap();
        assert!(loaded.encrypt() && loaded.others_may_read());
        assert_eq!(format!("{loaded:?}"), "[KeyName(\"k\")]");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(!Keys::load(&file).unwrap().others_may_read());
        std::fs::write(&file, format!("k {digits}\nnonsense\nk\n")).unwrap();
        let text = Keys::load(&file).unwrap_err().to_string();
        assert!(text.contains("line 2") && text.contains("line 3"), "{text}");
        assert!(!text.contains("0f0f") && !text.contains("nonsense"), "{text}");
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(matches!(Keys::load(&file), Err(KeyFileError::NotText)));
        assert!(matches!(Keys::load(&folder.path().join("none")), Err(KeyFileError::Read(_))));
    }
}
