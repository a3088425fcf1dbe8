//! Errors that the switch or the AES gives as an answer (dossier 6.9), by category. The exact
//! value of each failure is not documented, so decisions use the category and, where there is no
//! other way, the words that `register` lists.

use std::fmt;

use super::register;
use super::xml::Element;

/// The child of `CSTAErrorCode`, or what stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorCategory {
    /// `operation`: wrong or unknown object.
    Operation,
    /// `stateIncompatibility`: the call or device is not in the right state.
    StateIncompatibility,
    /// `systemResourceAvailibility` (spelt so): busy, limits.
    SystemResource,
    /// `subscribedResourceAvailability`: licences, monitor limits.
    SubscribedResource,
    /// `performanceManagement`: overload.
    Performance,
    /// `security`.
    Security,
    /// `privateData`.
    PrivateData,
    /// `privateErrorCode`: Avaya's own text.
    Private,
    /// `unspecified`, or a child that is not known.
    Unspecified,
    /// `CSTAException` without an inner error: the server's code failed.
    Exception,
    /// The answer did not come in time, or the socket was lost before it came: the request may or
    /// may not have been carried out.
    Unanswered,
    /// The request never left this node; the text says why.
    NotSent,
    /// The answer makes no sense for the request.
    BadAnswer,
}

impl ErrorCategory {
    /// A stable word for metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operation => "operation",
            Self::StateIncompatibility => "stateincompatibility",
            Self::SystemResource => "systemresource",
            Self::SubscribedResource => "subscribedresource",
            Self::Performance => "performance",
            Self::Security => "security",
            Self::PrivateData => "privatedata",
            Self::Private => "private",
            Self::Unspecified => "unspecified",
            Self::Exception => "exception",
            Self::Unanswered => "unanswered",
            Self::NotSent => "notsent",
            Self::BadAnswer => "badanswer",
        }
    }
}

/// A refusal, with the words of whoever refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CstaError {
    /// What kind.
    pub category: ErrorCategory,
    /// All text of the answer, as it came.
    pub detail: String,
}

impl fmt::Display for CstaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.category.name(), self.detail)
    }
}

impl CstaError {
    /// An error of this node's own making.
    #[must_use]
    pub fn new(category: ErrorCategory, detail: &str) -> Self {
        Self { category, detail: detail.to_owned() }
    }

    /// Reads `CSTAErrorCode` or `CSTAException`; `None` if the message is neither.
    #[must_use]
    pub fn parse(message: &Element) -> Option<Self> {
        let detail = message.all_text();
        match message.name.as_str() {
            "CSTAErrorCode" => Some(Self { category: category_of(message), detail }),
            "CSTAException" => {
                let inner = message.child("CSTAErrorCode");
                let category = inner.map_or(ErrorCategory::Exception, category_of);
                Some(Self { category, detail })
            }
            _ => None,
        }
    }

    /// The call has no room for one more party.
    #[must_use]
    pub fn is_party_limit(&self) -> bool {
        register::says_party_limit(self)
    }

    /// The device is in use.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        register::says_busy(self)
    }

    /// The call or connection is not there (any more).
    #[must_use]
    pub fn is_gone(&self) -> bool {
        register::says_gone(self)
    }
}

fn category_of(error: &Element) -> ErrorCategory {
    for child in &error.children {
        match child.name.as_str() {
            "operation" => return ErrorCategory::Operation,
            "stateIncompatibility" => return ErrorCategory::StateIncompatibility,
            "systemResourceAvailibility" | "systemResourceAvailability" => {
                return ErrorCategory::SystemResource;
            }
            "subscribedResourceAvailability" | "subscribedResourceAvailibility" => {
                return ErrorCategory::SubscribedResource;
            }
            "performanceManagement" => return ErrorCategory::Performance,
            "security" => return ErrorCategory::Security,
            "privateData" => return ErrorCategory::PrivateData,
            "privateErrorCode" => return ErrorCategory::Private,
            _ => {}
        }
    }
    ErrorCategory::Unspecified
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmcc::xml;

    fn parse(text: &str) -> CstaError {
        CstaError::parse(&xml::parse(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn each_category_is_recognised() {
        use ErrorCategory as C;
        for (child, category) in [
            ("operation", C::Operation),
            ("stateIncompatibility", C::StateIncompatibility),
            ("systemResourceAvailibility", C::SystemResource),
            ("subscribedResourceAvailability", C::SubscribedResource),
            ("performanceManagement", C::Performance),
            ("security", C::Security),
            ("privateData", C::PrivateData),
            ("privateErrorCode", C::Private),
            ("unspecified", C::Unspecified),
            ("somethingNew", C::Unspecified),
        ] {
            let text = format!("<CSTAErrorCode><{child}>word</{child}></CSTAErrorCode>");
            assert_eq!(parse(&text), CstaError::new(category, "word"));
        }
        assert_eq!(parse("<CSTAErrorCode/>"), CstaError::new(C::Unspecified, ""));
    }

    #[test]
    fn an_exception_is_its_inner_error() {
        let error = parse(
            "<a:CSTAException xmlns:a='u'><a:message>it broke</a:message><CSTAErrorCode>\
             <operation>invalidDeviceID</operation></CSTAErrorCode></a:CSTAException>",
        );
        assert_eq!(error, CstaError::new(ErrorCategory::Operation, "it broke invalidDeviceID"));
        let error = parse("<CSTAException><message>it broke</message></CSTAException>");
        assert_eq!(error.category, ErrorCategory::Exception);
    }

    #[test]
    fn what_an_error_means_for_a_tap() {
        let error = |category, detail| CstaError::new(category, detail);
        let full = error(ErrorCategory::SystemResource, "conferenceMemberLimitExceeded");
        assert!(full.is_party_limit() && !full.is_busy() && !full.is_gone());
        let busy = error(ErrorCategory::SystemResource, "resourceBusy");
        assert!(busy.is_busy() && !busy.is_party_limit());
        let gone = error(ErrorCategory::Operation, "invalidCallID");
        assert!(gone.is_gone());
        assert!(error(ErrorCategory::StateIncompatibility, "noActiveCall").is_gone());
    }
}
