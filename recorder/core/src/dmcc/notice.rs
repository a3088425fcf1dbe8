//! What the link tells its shell: what to do with the socket, and what has become known.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use storage_core::{CallId, Extension, Ucid};

use super::error::{CstaError, ErrorCategory};
use crate::Receiver;
use crate::call::event::{AgentEvent, CallEvent, CallSnapshot, Device, Monitor};
use crate::media::srtp::Protection;

/// What the shell shall do next.
#[expect(clippy::large_enum_variant, reason = "moved once each, through a queue that is short")]
#[derive(Clone, PartialEq, Eq)]
pub enum Output {
    /// Open a socket to the AES and tell the outcome by `handle_connected` or
    /// `handle_connect_failed`.
    Connect,
    /// Close the socket, or give up opening it. Nothing more is told of it.
    Close,
    /// Write this. It may hold a password: never log it.
    Send(Vec<u8>),
    /// Something that others want to know.
    Notice(Notice),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("Connect"),
            Self::Close => f.write_str("Close"),
            Self::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Self::Notice(notice) => notice.fmt(f),
        }
    }
}

/// Why a session is down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownCause {
    /// The socket was closed or broke.
    #[error("the connection to the AES was lost")]
    SocketLost,
    /// A keep-alive was not answered.
    #[error("the AES does not answer keep-alives")]
    KeepAliveUnanswered,
    /// The stream of frames cannot be followed any more.
    #[error("the AES sent a frame with a broken length")]
    BrokenFrame,
    /// The server ended the session, or says that it does not exist.
    #[error("the AES ended the session ({reason})")]
    Terminated {
        /// The server's words.
        reason: String,
    },
    /// We stopped.
    #[error("the session was stopped")]
    Stopped,
}

/// Why a phantom that was ready is not ready any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LostCause {
    /// The switch or the AES ended the registration.
    #[error("unregistered, code {code:?}: {reason}")]
    Unregistered {
        /// `code`.
        code: Option<i64>,
        /// `reason`, as it came.
        reason: String,
    },
    /// No event came, but asking showed that it is not registered.
    #[error("found not to be registered")]
    FoundUnregistered,
    /// The session that owned the registration is gone.
    #[error("the session that owned the registration is gone")]
    SessionLost,
    /// The server does not know the device any more.
    #[error("the AES does not know the device any more")]
    DeviceLost,
    /// It does not observe its station any more, or nothing is heard by it.
    #[error("it hears nothing of its station: observing is dialled again")]
    NotObserving,
    /// The configuration does not name it any more.
    #[error("taken out of the configuration")]
    Removed,
}

/// A message that could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Fault {
    /// The length field of a frame is broken.
    #[error("a frame with a broken length")]
    BrokenFrame,
    /// A frame that holds no XML, or more than is taken.
    #[error("a frame that holds no well-formed XML")]
    NotXml,
    /// XML that is no message we know.
    #[error("an unknown message")]
    UnknownMessage,
    /// A known message without its essential field.
    #[error("a message that lacks an essential field")]
    MissingField,
    /// The answer to no request that is open.
    #[error("an answer to no open request")]
    UnexpectedAnswer,
    /// An answer that does not fit its request.
    #[error("an answer that does not fit its request")]
    WrongAnswer,
    /// An event of a monitor that we do not have.
    #[error("an event of an unknown monitor")]
    UnknownMonitor,
    /// A request too long for a frame.
    #[error("a request that is too long for a frame")]
    RequestTooLong,
}

/// What has become known. Telephone numbers are in it, so its debug form is not for logs.
#[expect(clippy::large_enum_variant, reason = "most notices are call events, the large ones")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A session stands: the one from before the outage if `recovered`, else a new one.
    SessionUp {
        /// The old session was taken back.
        recovered: bool,
    },
    /// The session cannot be used. Registrations may stand until `PhantomLost` or a new session.
    SessionDown {
        /// Why.
        cause: DownCause,
    },
    /// The AES does not accept the login. Told once; it is tried again slowly.
    CredentialsRefused {
        /// The server's words.
        detail: String,
    },
    /// The AES refuses a session for a reason of its own, or does not answer. It is tried again.
    SessionRefused {
        /// The server's words.
        detail: String,
    },
    /// The state of all stations and phantoms is being asked for; snapshots follow.
    ResyncBegan,
    /// A call that is up.
    Snapshot(CallSnapshot),
    /// A call whose snapshot was asked for is not there any more, as seen from `party`.
    SnapshotCallGone {
        /// The call.
        call: CallId,
        /// Through whom it was asked for.
        party: Extension,
    },
    /// A snapshot that was asked for by `snapshot_call` cannot be had.
    SnapshotRefused {
        /// The call.
        call: CallId,
        /// Why.
        error: CstaError,
    },
    /// All that could be asked has answered: a call that no snapshot since `ResyncBegan` has named
    /// is over, unless it is known only through one of `unseen`.
    ResyncDone {
        /// Stations and phantoms whose calls could not be asked for.
        unseen: Vec<Extension>,
    },
    /// A phantom is registered and can join calls.
    PhantomReady {
        /// Which.
        phantom: Receiver,
    },
    /// A phantom that was ready is not any more; it will be registered again.
    PhantomLost {
        /// Which.
        phantom: Receiver,
        /// Why.
        cause: LostCause,
    },
    /// The switch refused to register a phantom.
    PhantomRefused {
        /// Which.
        phantom: Receiver,
        /// The server's number.
        code: Option<i64>,
        /// The server's words.
        reason: String,
        /// It will be tried again; `false` for a wrong security code, until `reload`.
        retried: bool,
    },
    /// A device cannot be watched; it is tried again slowly. Told once per outage of the device.
    MonitorRefused {
        /// Which.
        device: Monitor,
        /// Why.
        error: CstaError,
    },
    /// A monitor reported something of a call.
    Call(CallEvent),
    /// An agent logged in or out, or is found logged in.
    Agent(AgentEvent),
    /// The media of a phantom is now so; may be repeated without a stop between.
    MediaStarted {
        /// Which.
        phantom: Receiver,
        /// Where the far end sends from, normally.
        source: Option<SocketAddr>,
        /// `al_codecs` name, or the wire's word in lower case.
        codec: String,
        /// Milliseconds in a packet.
        packet_ms: u32,
        /// How it is encrypted.
        protection: Protection,
    },
    /// The media of a phantom has stopped.
    MediaStopped {
        /// Which.
        phantom: Receiver,
    },
    /// A phantom has been added to a call.
    Joined {
        /// The caller's number of the request.
        ticket: u64,
        /// The phantom.
        phantom: Extension,
        /// The call it is in.
        call: CallId,
        /// Its UCID, if told.
        ucid: Option<Ucid>,
        /// Its parties, if told: at most six.
        parties: Vec<Device>,
    },
    /// A phantom was not added.
    JoinRefused {
        /// The caller's number of the request.
        ticket: u64,
        /// The phantom.
        phantom: Extension,
        /// Why.
        error: CstaError,
    },
    /// No answer in time, or the connection was lost before it: the phantom may be in the call or
    /// not. Should the answer come late, `Joined` or `JoinRefused` still follows.
    JoinTimedOut {
        /// The caller's number of the request.
        ticket: u64,
        /// The phantom.
        phantom: Extension,
    },
    /// A phantom has left a call.
    Left {
        /// The phantom.
        phantom: Extension,
        /// The call.
        call: CallId,
    },
    /// A phantom could not be taken out of a call.
    LeaveRefused {
        /// The phantom.
        phantom: Extension,
        /// The call.
        call: CallId,
        /// Why.
        error: CstaError,
    },
    /// Answer to `call_linkage`.
    Linkage {
        /// The call.
        call: CallId,
        /// Its UCID, if the switch gives it one.
        ucid: Option<Ucid>,
    },
    /// Answer to `name`: the AES has a name for the number at the switch.
    Named,
    /// It has none.
    NameRefused {
        /// Why.
        error: CstaError,
    },
    /// The link between AES and switch came up or went down. Media goes on without it.
    CtiLink {
        /// Up.
        up: bool,
    },
    /// The AES does not tell the state of that link.
    CtiLinkUnknown {
        /// Why.
        error: CstaError,
    },
    /// A message could not be used. Told for the 1st, 2nd, 4th, 8th … of its kind, so that a
    /// broken server cannot fill the log.
    ProtocolError {
        /// What kind.
        what: Fault,
        /// How many of them there have been.
        counted: u64,
        /// More about this one; no user's text.
        detail: String,
    },
}

/// Counts since the link was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests sent.
    pub requests: u64,
    /// Events of monitors, understood and passed on.
    pub events: u64,
    /// Requests that were not answered in time.
    pub timeouts: u64,
    /// Times the link set out to connect, the first included.
    pub connects: u64,
    /// New sessions.
    pub sessions_started: u64,
    /// Sessions taken back after a socket loss.
    pub sessions_recovered: u64,
    /// Messages that could not be used.
    pub faults: BTreeMap<Fault, u64>,
    /// Refused requests.
    pub errors: BTreeMap<ErrorCategory, u64>,
}
