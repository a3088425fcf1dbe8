//! Asks the provider again and again whether it still vouches for those who signed in by it (grant `refresh_token`,
//! RFC 6749, section 6), and signs out whom it does not, or not for the same. How long its silence is borne is
//! `renewal`'s to decide.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use recorder_core::dmcc::Secret;

use super::provider::{Renewed, Unhelpful};
use super::renewal::{Renewal, Said, is_refusal};
use super::{Answered, Door, person};
use crate::web::session::Session;
use crate::web::signin::Desk;

/// Questions at once: fewer than the provider is asked in all, so that people can sign in meanwhile.
const AT_ONCE: usize = 4;
/// How often is looked who is due: a tenth of the time between two questions, within these.
const LOOK_LEAST: Duration = Duration::from_millis(50);
const LOOK_MOST: Duration = Duration::from_secs(10);

/// Somebody whom the provider has vouched for. No `Debug`: it holds what new tokens are given for.
pub(super) struct Vouched {
    /// Not held: a session that nobody uses is to end.
    session: Weak<Session>,
    address: IpAddr,
    answered: Answered,
    refresh: Secret,
    renewal: Renewal,
}

impl Door {
    /// Keeps what is needed to ask after somebody who has just signed in.
    pub(super) fn keep(&self, session: &Arc<Session>, address: IpAddr, answered: Answered) {
        // Without it there is nothing to ask with, and the session is short from the begin.
        let Some(refresh) = answered.refresh.clone().filter(|_| self.every().is_some()) else {
            return;
        };
        let (session, renewal) = (Arc::downgrade(session), Renewal::new(self.now()));
        let vouched = Vouched { session, address, answered, refresh, renewal };
        self.vouched.lock().unwrap_or_else(PoisonError::into_inner).push(vouched);
    }

    /// Asks after all of them, for ever.
    pub(in crate::web) async fn watch(self: Arc<Self>, desk: Arc<Desk>) {
        let Some(every) = self.every() else { return };
        loop {
            tokio::time::sleep((every / 10).clamp(LOOK_LEAST, LOOK_MOST)).await;
            let silent = AtomicBool::new(false);
            iter(self.take_due(every))
                .for_each_concurrent(AT_ONCE, |vouched| {
                    self.ask_after(vouched, every, &desk, &silent)
                })
                .await;
        }
    }

    fn every(&self) -> Option<Duration> {
        self.provider.oidc.recheck
    }

    /// Those that are to be asked after; whose session is over is forgotten.
    fn take_due(&self, every: Duration) -> Vec<Vouched> {
        let now = self.now();
        let mut all = self.vouched.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|vouched| vouched.session.strong_count() > 0);
        all.extract_if(.., |vouched| vouched.renewal.is_due(now, every)).collect()
    }

    /// Where one of a round got no answer (`silent`), the others are not kept waiting for one each.
    async fn ask_after(
        &self,
        mut vouched: Vouched,
        every: Duration,
        desk: &Desk,
        silent: &AtomicBool,
    ) {
        let said = match silent.load(Ordering::Relaxed) {
            true => Said::Nothing,
            false => self.word_of(&mut vouched, desk, silent).await,
        };
        if vouched.renewal.goes_on(self.now(), every, said) {
            return self.vouched.lock().unwrap_or_else(PoisonError::into_inner).push(vouched);
        }
        let Some(session) = vouched.session.upgrade() else { return };
        let because = match said {
            Said::No => "the provider no longer vouches for him as he signed in",
            Said::Yes | Said::Nothing => "the provider has said nothing of him for too long",
        };
        desk.end(&session, vouched.address, because).await;
    }

    async fn word_of(&self, vouched: &mut Vouched, desk: &Desk, silent: &AtomicBool) -> Said {
        let Renewed { id_token, refresh_token } = match self.provider.renew(&vouched.refresh).await
        {
            Ok(renewed) => renewed,
            Err(Unhelpful::Status { status: 400..=499, error: Some(error), .. })
                if is_refusal(&error) =>
            {
                return Said::No;
            }
            Err(why) => {
                silent.fetch_or(matches!(why, Unhelpful::Away { .. }), Ordering::Relaxed);
                return self.unheard(&why);
            }
        };
        if let Some(next) = refresh_token {
            vouched.refresh = Secret::new(next);
        }
        // It need not give one (OpenID Connect Core 1.0, 12.2): then he is who he was.
        let Some(token) = id_token else { return Said::Yes };
        let Answered { nonce, subject, .. } = &vouched.answered;
        let claims = match self.checked(&token, nonce, Some(subject)).await {
            Ok(Ok(claims)) => claims,
            Ok(Err(wrong)) => return self.unheard(&wrong),
            Err(why) => return self.unheard(&why),
        };
        let now = person::identity(&claims, &self.provider.oidc, &desk.users());
        let was = vouched.session.upgrade();
        let same = now.is_ok_and(|now| was.is_some_and(|session| *session.who() == now));
        if same { Said::Yes } else { Said::No }
    }

    fn unheard(&self, why: &dyn std::fmt::Display) -> Said {
        let issuer = &self.provider.oidc.issuer;
        tracing::warn!(%issuer, error = %why, "whether somebody is still vouched for is not known");
        Said::Nothing
    }
}
