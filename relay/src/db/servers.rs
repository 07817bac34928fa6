//! Records of servers: names and labels that the operator gave, and whose agent it is.

use std::collections::BTreeMap;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::outer::{
    LABELS, Record, ServerCreate, ServerState, ServerUpdate, valid_label, valid_name,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::db::identities::Workspace;
use crate::db::{Db, broken, now, seconds};

/// How many servers a workspace may have.
const SERVERS: i64 = 10_000;

/// How long a token may be good, in seconds.
const LIFETIME: u32 = 7 * 24 * 3600;

/// How many records a page of a list has.
const PAGE: i64 = 200;

/// A record as the books have it. Whether its agent is there is not known here.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) workspace: Workspace,
    pub(crate) record: Record,
    pub(crate) suspended: bool,
}

fn unknown(name: &str) -> Failure {
    Failure::new(Kind::UnknownServer, format!("the relay has no server called `{name}`"))
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Kind::InvalidArgument, message)
}

fn read(row: &SqliteRow) -> Result<Server, Failure> {
    let damaged = || Failure::new(Kind::RelayDenied, "a damaged record in the relay's database");
    let bytes: Vec<u8> = row.get("record");
    let agent: Option<Vec<u8>> = row.get("agent");
    let agent = agent.map(|id| id.try_into().map(Id).map_err(|_| damaged())).transpose()?;
    let suspended = row.get::<i64, _>("suspended") != 0;
    let state = match agent {
        _ if suspended => ServerState::Suspended,
        None => ServerState::Pending,
        Some(_) => ServerState::Offline,
    };
    let record = Record {
        id: Nonce(bytes.try_into().map_err(|_| damaged())?),
        name: row.get("name"),
        labels: serde_json::from_str(row.get("labels")).map_err(|_| damaged())?,
        state,
        agent,
        created: seconds(row.get("created")),
        seen: row.get::<Option<i64>, _>("seen").map(seconds),
        build: row.get("build"),
        duplicate: row.get::<Option<i64>, _>("duplicate").map(seconds),
    };
    Ok(Server { workspace: row.get("workspace"), record, suspended })
}

fn labels_json(labels: &BTreeMap<String, String>) -> Result<String, Failure> {
    if labels.len() > LABELS {
        return Err(invalid(format!("{} labels, at most {LABELS} are allowed", labels.len())));
    }
    if let Some((key, _)) = labels.iter().find(|(key, value)| !valid_label(key, value)) {
        return Err(invalid(format!("the label `{}` is not valid", key.escape_default())));
    }
    serde_json::to_string(labels).map_err(|_| invalid("the labels cannot be written"))
}

fn check_name(name: &str) -> Result<(), Failure> {
    if valid_name(name) {
        return Ok(());
    }
    Err(invalid(format!("`{}` is not a name for a server", name.escape_default())).with_hint(
        "use 1 to 64 letters, digits, `-`, `_` or `.`, beginning with a letter or a digit",
    ))
}

fn taken(error: &sqlx::Error, name: &str) -> Failure {
    match error.as_database_error() {
        Some(inner) if inner.is_unique_violation() => {
            Failure::new(Kind::NameTaken, format!("there is a server called `{name}` already"))
        }
        _ => broken(error),
    }
}

async fn add_enrollment(
    tx: &mut SqliteConnection,
    enrollment: Nonce,
    server: (&[u8], Workspace),
    lifetime: u32,
) -> Result<(), Failure> {
    if lifetime == 0 || lifetime > LIFETIME {
        return Err(invalid("a token is good for 1 second to 7 days"));
    }
    sqlx::query("INSERT INTO enrollments (id, record, workspace, expires) VALUES (?, ?, ?, ?)")
        .bind(enrollment.0.to_vec())
        .bind(server.0)
        .bind(server.1)
        .bind(now() + i64::from(lifetime))
        .execute(tx)
        .await
        .map(drop)
        .map_err(|error| broken(&error))
}

impl Db {
    /// Every server that has an agent, for the directory in memory.
    pub(crate) async fn enrolled(&self) -> Result<Vec<Server>, Failure> {
        let rows = sqlx::query("SELECT * FROM servers WHERE agent IS NOT NULL")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| broken(&error))?;
        rows.iter().map(read).collect()
    }

    pub(crate) async fn list(
        &self,
        workspace: Workspace,
        page: u32,
    ) -> Result<(Vec<Server>, Option<u32>), Failure> {
        let statement = "SELECT * FROM servers WHERE workspace = ? ORDER BY name LIMIT ? OFFSET ?";
        let rows = sqlx::query(statement)
            .bind(workspace)
            .bind(PAGE + 1)
            .bind(i64::from(page) * PAGE)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| broken(&error))?;
        let page_size = usize::try_from(PAGE).expect("a small number");
        let more = (rows.len() > page_size).then(|| page.saturating_add(1));
        Ok((rows.iter().take(page_size).map(read).collect::<Result<_, _>>()?, more))
    }

    pub(crate) async fn server(&self, workspace: Workspace, name: &str) -> Result<Server, Failure> {
        let row = sqlx::query("SELECT * FROM servers WHERE workspace = ? AND name = ?")
            .bind(workspace)
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| broken(&error))?;
        read(&row.ok_or_else(|| unknown(name))?)
    }

    pub(crate) async fn server_of(&self, agent: Id) -> Result<Server, Failure> {
        let row = sqlx::query("SELECT * FROM servers WHERE agent = ?")
            .bind(agent.0.to_vec())
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| broken(&error))?;
        read(&row.ok_or_else(|| {
            Failure::new(Kind::RelayDenied, "the relay has no record of this agent")
                .with_hint("it was removed: `farwire-agent leave`, then enroll it with a new token")
        })?)
    }

    pub(crate) async fn create(
        &self,
        workspace: Workspace,
        create: &ServerCreate,
    ) -> Result<Server, Failure> {
        check_name(&create.name)?;
        let labels = labels_json(&create.labels)?;
        let mut tx = self.pool.begin().await.map_err(|error| broken(&error))?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM servers WHERE workspace = ?")
            .bind(workspace)
            .fetch_one(&mut *tx)
            .await
            .map_err(|error| broken(&error))?;
        if count >= SERVERS {
            return Err(Failure::new(
                Kind::TooLarge,
                format!("a workspace has at most {SERVERS} servers"),
            ));
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|error| Failure::new(Kind::Io, format!("no random numbers: {error}")))?;
        let statement = "INSERT INTO servers (record, workspace, name, labels, created) \
                         VALUES (?, ?, ?, ?, ?)";
        sqlx::query(statement)
            .bind(id.to_vec())
            .bind(workspace)
            .bind(&create.name)
            .bind(labels)
            .bind(now())
            .execute(&mut *tx)
            .await
            .map_err(|error| taken(&error, &create.name))?;
        add_enrollment(&mut tx, create.enrollment, (&id, workspace), create.lifetime).await?;
        tx.commit().await.map_err(|error| broken(&error))?;
        self.server(workspace, &create.name).await
    }

    pub(crate) async fn update(
        &self,
        workspace: Workspace,
        update: &ServerUpdate,
    ) -> Result<Server, Failure> {
        let old = self.server(workspace, &update.name).await?;
        let name = update.rename.as_ref().unwrap_or(&update.name);
        check_name(name)?;
        let mut labels = old.record.labels;
        labels.extend(update.set.clone().unwrap_or_default());
        for key in update.unset.iter().flatten() {
            labels.remove(key);
        }
        let labels = labels_json(&labels)?;
        let suspended = update.suspended.unwrap_or(old.suspended);
        let record = old.record.id.0;
        let mut tx = self.pool.begin().await.map_err(|error| broken(&error))?;
        sqlx::query("UPDATE servers SET name = ?, labels = ?, suspended = ? WHERE record = ?")
            .bind(name)
            .bind(labels)
            .bind(i64::from(suspended))
            .bind(record.to_vec())
            .execute(&mut *tx)
            .await
            .map_err(|error| taken(&error, name))?;
        if let Some(enrollment) = update.enrollment {
            let lifetime = update.lifetime.unwrap_or(3600);
            add_enrollment(&mut tx, enrollment, (&record, workspace), lifetime).await?;
        }
        tx.commit().await.map_err(|error| broken(&error))?;
        self.server(workspace, name).await
    }

    pub(crate) async fn remove(&self, workspace: Workspace, name: &str) -> Result<Server, Failure> {
        let server = self.server(workspace, name).await?;
        sqlx::query("DELETE FROM servers WHERE record = ?")
            .bind(server.record.id.0.to_vec())
            .execute(&self.pool)
            .await
            .map_err(|error| broken(&error))?;
        Ok(server)
    }

    /// Notes that the agent was there, and as what.
    pub(crate) async fn seen(&self, agent: Id, build: &str) {
        let statement = "UPDATE servers SET seen = ?, build = ? WHERE agent = ?";
        let done = sqlx::query(statement).bind(now()).bind(build).bind(agent.0.to_vec());
        if let Err(error) = done.execute(&self.pool).await {
            tracing::warn!(%error, "when an agent was seen could not be written");
        }
    }

    /// Notes that two processes hold this agent's identity.
    pub(crate) async fn note_duplicate(&self, agent: Id) {
        let done = sqlx::query("UPDATE servers SET duplicate = ? WHERE agent = ?")
            .bind(now())
            .bind(agent.0.to_vec());
        if let Err(error) = done.execute(&self.pool).await {
            tracing::warn!(%error, "a duplicate agent could not be written down");
        }
    }
}
