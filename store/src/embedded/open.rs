//! From a disk to a writer: opens the data file, making it when there is none, and reads where the store stands.

use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable};
use tokio::time::Instant;

use super::disk::{self, Disk};
use super::read::Snapshot;
use super::schema::{FORMAT, LOG, META, META_FORMAT, VERSIONS};
use super::shared::Shared;
use super::space::{Guarded, SpaceState};
use super::writer::Writer;
use super::{Options, storage_error, transaction_error};
use crate::{Error, Health};

/// Opens the database, and puts together what the writer works on.
pub(crate) fn open_writer(disk: Arc<dyn Disk>, options: Options, inline: bool) -> Result<Writer, Error> {
    let space = Arc::new(SpaceState::default());
    let database = open_database(&disk, &space, options.cache_bytes)?;
    let (health, purging) = inspect(&database)?;
    if let Err(err) = disk.reserve() {
        tracing::warn!(error = %err, "no space can be set aside; the store accepts only deletes for now");
        space.enter_full();
    }
    Ok(Writer {
        shared: Arc::new(Shared::new(database, health, inline)),
        disk,
        space,
        retention: options.retention,
        cache_bytes: options.cache_bytes,
        purging,
        freed: true,
        shrink_at: Instant::now(),
        trim_at: Instant::now(),
        trimmed_bytes: 0,
        revision_at_round: 0,
    })
}

/// Opens the data file on `disk`, making it when there is none.
pub(crate) fn open_database(
    disk: &Arc<dyn Disk>,
    space: &Arc<SpaceState>,
    cache_bytes: usize,
) -> Result<Database, Error> {
    let io_error = |err| disk::io_error("data file", &err);
    let file = match disk.open().map_err(io_error)? {
        Some(file) => file,
        None => {
            let file = Guarded::new(disk.create().map_err(io_error)?, Arc::clone(disk), Arc::clone(space));
            create_database(file)?;
            disk.publish().map_err(io_error)?;
            disk.open().map_err(io_error)?.ok_or_else(|| Error::Broken("the data file vanished".to_owned()))?
        }
    };
    let guarded = Guarded::new(file, Arc::clone(disk), Arc::clone(space));
    let database =
        Database::builder().set_cache_size(cache_bytes).create_with_backend(guarded).map_err(storage_error)?;
    match stored_format(&database)? {
        Some(FORMAT) => Ok(database),
        Some(other) => Err(Error::Broken(format!("data has format {other}, this version knows {FORMAT}"))),
        None => Err(Error::Broken("the data file is of something else".to_owned())),
    }
}

/// Fills a new file with empty tables.
fn create_database(file: Guarded) -> Result<(), Error> {
    let database = Database::builder().create_with_backend(file).map_err(storage_error)?;
    let write = database.begin_write().map_err(transaction_error)?;
    write.open_table(VERSIONS).map_err(storage_error)?;
    write.open_table(LOG).map_err(storage_error)?;
    write.open_table(META).map_err(storage_error)?.insert(META_FORMAT, FORMAT).map_err(storage_error)?;
    write.commit().map_err(storage_error)
}

fn stored_format(database: &Database) -> Result<Option<u64>, Error> {
    let read = database.begin_read().map_err(transaction_error)?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(err) => return Err(storage_error(err)),
    };
    Ok(meta.get(META_FORMAT).map_err(storage_error)?.map(|format| format.value()))
}

/// Reads where the store stands, and whether compacted history was left behind by a crash.
fn inspect(database: &Database) -> Result<(Health, bool), Error> {
    let read = database.begin_read().map_err(transaction_error)?;
    let oldest =
        read.open_table(LOG).map_err(storage_error)?.first().map_err(storage_error)?.map(|(at, _)| at.value().0);
    let snapshot = Snapshot::new(read)?;
    let health = Health { revision: snapshot.revision, compacted: snapshot.compacted, ..Health::default() };
    Ok((health, oldest.is_some_and(|oldest| oldest <= snapshot.compacted)))
}
