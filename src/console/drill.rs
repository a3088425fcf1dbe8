//! A drill for whoever asks elsewhere than on the console: the same steps, their lines gathered. What the steps
//! are is `group`'s matter, who may ask the web server's.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::group::{Asking, Patience};
use super::output::Output;
use super::run::changing;
use super::{Actions, Code, Failure};
use crate::web::backend::{self, Drill};

/// Who carries out drills.
pub struct Drills {
    actions: Arc<dyn Actions>,
    patience: Patience,
}

impl Drills {
    /// On this node.
    #[must_use]
    pub fn new(actions: Arc<dyn Actions>) -> Self {
        Self { actions, patience: Patience::default() }
    }
}

impl Drill for Drills {
    fn drill(&self) -> BoxFuture<'static, Result<Vec<String>, backend::Failure>> {
        let (actions, patience) = (Arc::clone(&self.actions), self.patience);
        Box::pin(async move {
            let done = drill(&*actions, patience).await;
            done.map_err(|Failure { code, message }| match code {
                Code::Shared(code) => backend::Failure::new(code, message),
                // Words of the console's own: the group does not do it, or not in time.
                _ => backend::Failure::new(backend::Code::Unavailable, message),
            })
        })
    }
}

async fn drill(actions: &dyn Actions, patience: Patience) -> Result<Vec<String>, Failure> {
    let Ok(_one) = actions.changing().try_lock() else { return Err(changing()) };
    let (out, mut told) = Output::new();
    let drilling = async {
        let out = out;
        Asking { actions, patience, out: &out }.drill().await
    };
    let gathering = async {
        let mut lines = Vec::new();
        while let Some(line) = told.recv().await {
            lines.push(line);
        }
        lines
    };
    let (done, lines) = tokio::join!(drilling, gathering);
    done.map(|()| lines)
}

#[cfg(test)]
mod tests {
    use storage_core::Role::{Active, Backup, Witness};

    use super::super::fake::Fake;
    use super::*;

    #[tokio::test]
    async fn one_change_of_the_group_at_a_time() {
        let fake = Arc::new(Fake::group(&[Active, Backup, Witness]));
        let drills = Drills::new(Arc::<Fake>::clone(&fake));
        let lines = drills.drill().await.unwrap();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[3].starts_with("node 2 to node 1: granted after "), "{lines:?}");
        let console = fake.changing().try_lock().unwrap();
        assert_eq!(drills.drill().await.unwrap_err().code, backend::Code::Busy);
        drop(console);
        assert!(drills.drill().await.is_ok());
        let alone = Drills::new(Arc::new(Fake::alone())).drill().await.unwrap_err();
        assert!(alone.message.contains("this node is alone"), "{alone}");
    }
}
