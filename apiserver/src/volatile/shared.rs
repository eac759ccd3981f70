//! The memory-only class as one of several servers sees it: its own to keep, or another's to ask.
//!
//! A [`Backend`] that passes every call to where the class is at the moment. The election in [`crate::servers`] decides
//! that and tells it here. An owner answers only as long as its ownership was confirmed a moment ago, so that two
//! servers never answer at once; streams end with the ownership they were opened under.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use drover_store::{
    Backend, ChangeStream, Error, KeyValue, Range, RangeResult, Revision, Transaction, TransactionResult,
};
use futures::StreamExt;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::kept::Kept;

/// How long a call waits while the class has no owner: about as long as a takeover lasts.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where the class is.
#[derive(Debug, Clone, Default)]
pub(crate) enum Place {
    /// Nobody has it, as far as this server knows.
    #[default]
    Nowhere,
    /// This server has it, for sure until the instant.
    Here {
        /// The revision of the record that makes it so.
        epoch: Revision,
        /// The class.
        store: Arc<Kept>,
        /// Ownership was confirmed to last until then.
        until: Instant,
    },
    /// Another server has it.
    There {
        /// The revision of the record that makes it so.
        epoch: Revision,
        /// The way to it.
        store: Arc<dyn Backend>,
    },
}

impl Place {
    /// The revision of the owner's record; 0 without an owner.
    pub(crate) fn epoch(&self) -> Revision {
        match self {
            Self::Nowhere => 0,
            Self::Here { epoch, .. } | Self::There { epoch, .. } => *epoch,
        }
    }

    fn store(&self, now: Instant) -> Option<Arc<dyn Backend>> {
        match self {
            Self::Here { store, until, .. } if *until > now => Some(Arc::clone(store) as Arc<dyn Backend>),
            Self::There { store, .. } => Some(Arc::clone(store)),
            Self::Nowhere | Self::Here { .. } => None,
        }
    }
}

/// The class, wherever it is.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    place: watch::Sender<Place>,
}

impl Shared {
    /// Says where the class is from now on.
    pub(crate) fn move_to(&self, place: Place) {
        self.place.send_replace(place);
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        self.place.borrow().clone()
    }

    /// Confirms this server's ownership until `instant`.
    pub(crate) fn extend(&self, instant: Instant) {
        self.place.send_modify(|place| {
            if let Place::Here { until, .. } = place {
                *until = instant;
            }
        });
    }

    /// The class when this server has it for sure; what other servers are answered from.
    pub(crate) fn own(&self) -> Option<(Revision, Arc<Kept>)> {
        match &*self.place.borrow() {
            Place::Here { epoch, store, until } if *until > Instant::now() => Some((*epoch, Arc::clone(store))),
            Place::Nowhere | Place::Here { .. } | Place::There { .. } => None,
        }
    }

    async fn store(&self) -> Result<(Revision, Arc<dyn Backend>), Error> {
        let mut places = self.place.subscribe();
        let usable = places.wait_for(|place| place.store(Instant::now()).is_some());
        let place = match timeout(PATIENCE, usable).await {
            Ok(Ok(place)) => place.clone(),
            Ok(Err(_)) | Err(_) => return Err(nobody()),
        };
        Ok((place.epoch(), place.store(Instant::now()).ok_or_else(nobody)?))
    }

    /// Ends a stream when the class moves.
    pub(crate) fn until_moved(&self, epoch: Revision, changes: ChangeStream) -> ChangeStream {
        let mut places = self.place.subscribe();
        let moved = async move {
            // An error means that the class itself is gone, with the server.
            drop(places.wait_for(|place| place.epoch() != epoch).await);
        };
        changes.take_until(Box::pin(moved)).boxed()
    }
}

#[async_trait]
impl Backend for Shared {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        self.store().await?.1.get(key).await
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.store().await?.1.range(range).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        self.store().await?.1.commit(transaction).await
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        let (epoch, store) = self.store().await?;
        let changes = store.changes(prefix, after).await?;
        Ok(self.until_moved(epoch, changes))
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.store().await?.1.revision().await
    }

    async fn compact(&self, _revision: Revision) -> Result<(), Error> {
        Ok(())
    }
}

fn nobody() -> Error {
    Error::Unavailable("no server owns Leases and Events at the moment; one takes over within seconds".to_owned())
}
