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
use crate::db::{Db, broken, commit, named, now, seconds};

/// How many servers a workspace may have.
const SERVERS: i64 = 10_000;

/// How many enrollments of a workspace are kept. Each may have 64 KiB of mail.
pub(super) const ENROLLMENTS: i64 = 20_000;

/// How long a token may be good, in seconds.
const LIFETIME: u32 = 7 * 24 * 3600;

/// How many records are read for one page of a list. Its bytes may be enough sooner.
const PAGE: i64 = 200;

/// How long a duplicate is shown after it was last seen, in seconds: twice the longest wait of an agent that
/// was displaced. Where two still live, one has displaced the other by then.
pub(crate) const DUPLICATE: i64 = 2 * 3600;

/// What was seen of an agent since it was last written down.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Seen {
    /// When it was last here, and what it said that it is.
    pub(crate) here: Option<(i64, String)>,
    /// When two processes were last found to hold its identity.
    pub(crate) duplicate: Option<i64>,
}

/// A record as the books have it. Whether its agent is there is not known here.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) workspace: Workspace,
    pub(crate) record: Record,
    pub(crate) suspended: bool,
}

fn unknown(name: &str) -> Failure {
    Failure::new(Kind::UnknownServer, format!("the relay has no server called `{}`", named(name)))
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
        duplicate: row.get::<Option<i64>, _>("duplicate").filter(still_duplicate).map(seconds),
    };
    Ok(Server { workspace: row.get("workspace"), record, suspended })
}

/// Whether a duplicate that was last seen then is still one.
pub(crate) fn still_duplicate(then: &i64) -> bool {
    then.saturating_add(DUPLICATE) >= now()
}

async fn find(
    connection: &mut SqliteConnection,
    workspace: Workspace,
    name: &str,
) -> Result<Server, Failure> {
    let row = sqlx::query("SELECT * FROM servers WHERE workspace = ? AND name = ?")
        .bind(workspace)
        .bind(name)
        .fetch_optional(connection)
        .await
        .map_err(|error| broken(&error))?;
    read(&row.ok_or_else(|| unknown(name))?)
}

/// The record of an agent.
pub(super) async fn find_agent(
    connection: &mut SqliteConnection,
    agent: Id,
) -> Result<Server, Failure> {
    let row = sqlx::query("SELECT * FROM servers WHERE agent = ?")
        .bind(agent.0.to_vec())
        .fetch_optional(connection)
        .await
        .map_err(|error| broken(&error))?;
    read(&row.ok_or_else(|| {
        Failure::new(Kind::RelayDenied, "the relay has no record of this agent")
            .with_hint("it was removed: `farwire-agent leave`, then enroll it with a new token")
    })?)
}

fn labels_json(labels: &BTreeMap<String, String>) -> Result<String, Failure> {
    if labels.len() > LABELS {
        return Err(invalid(format!("{} labels, at most {LABELS} are allowed", labels.len())));
    }
    if let Some((key, _)) = labels.iter().find(|(key, value)| !valid_label(key, value)) {
        return Err(invalid(format!("the label `{}` is not valid", named(key))));
    }
    serde_json::to_string(labels).map_err(|_| invalid("the labels cannot be written"))
}

fn check_name(name: &str) -> Result<(), Failure> {
    if valid_name(name) {
        return Ok(());
    }
    Err(invalid(format!("`{}` is not a name for a server", named(name))).with_hint(
        "use 1 to 64 letters, digits, `-`, `_` or `.`, beginning with a letter or a digit",
    ))
}

fn taken(error: &sqlx::Error, name: &str) -> Failure {
    match error.as_database_error() {
        Some(inner) if inner.is_unique_violation() => Failure::new(
            Kind::NameTaken,
            format!("there is a server called `{}` already", named(name)),
        ),
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
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM enrollments WHERE workspace = ?")
        .bind(server.1)
        .fetch_one(&mut *tx)
        .await
        .map_err(|error| broken(&error))?;
    if count >= ENROLLMENTS {
        let message = format!("a workspace has at most {ENROLLMENTS} tokens");
        return Err(Failure::new(Kind::TooLarge, message)
            .with_hint("they are forgotten a week after their time, or with their server"));
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

    /// Records of a workspace by name, from this one on; and whether there are more.
    pub(crate) async fn list(
        &self,
        workspace: Workspace,
        from: u32,
    ) -> Result<(Vec<Server>, bool), Failure> {
        let statement = "SELECT * FROM servers WHERE workspace = ? ORDER BY name LIMIT ? OFFSET ?";
        let rows = sqlx::query(statement)
            .bind(workspace)
            .bind(PAGE + 1)
            .bind(i64::from(from))
            .fetch_all(&self.pool)
            .await
            .map_err(|error| broken(&error))?;
        let page = usize::try_from(PAGE).expect("a small number");
        let servers = rows.iter().take(page).map(read).collect::<Result<_, _>>()?;
        Ok((servers, rows.len() > page))
    }

    pub(crate) async fn server(&self, workspace: Workspace, name: &str) -> Result<Server, Failure> {
        let mut connection = self.pool.acquire().await.map_err(|error| broken(&error))?;
        find(&mut connection, workspace, name).await
    }

    pub(crate) async fn server_of(&self, agent: Id) -> Result<Server, Failure> {
        let mut connection = self.pool.acquire().await.map_err(|error| broken(&error))?;
        find_agent(&mut connection, agent).await
    }

    pub(crate) async fn create(
        &self,
        workspace: Workspace,
        create: &ServerCreate,
    ) -> Result<Server, Failure> {
        check_name(&create.name)?;
        let labels = labels_json(&create.labels)?;
        let mut tx = self.write(Some(workspace)).await?;
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
        // Before the end: whoever is told that it failed is to be right.
        let server = find(&mut tx, workspace, &create.name).await?;
        commit(tx).await?;
        Ok(server)
    }

    pub(crate) async fn update(
        &self,
        workspace: Workspace,
        update: &ServerUpdate,
    ) -> Result<Server, Failure> {
        let name = update.rename.as_ref().unwrap_or(&update.name);
        check_name(name)?;
        // Whoever names what is not there does not take the turn of those who write.
        self.server(workspace, &update.name).await?;
        let mut tx = self.write(Some(workspace)).await?;
        let old = find(&mut tx, workspace, &update.name).await?;
        let mut labels = old.record.labels;
        labels.extend(update.set.clone().unwrap_or_default());
        for key in update.unset.iter().flatten() {
            labels.remove(key);
        }
        let labels = labels_json(&labels)?;
        let suspended = update.suspended.unwrap_or(old.suspended);
        let record = old.record.id.0;
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
        let server = find(&mut tx, workspace, name).await?;
        commit(tx).await?;
        Ok(server)
    }

    pub(crate) async fn remove(&self, workspace: Workspace, name: &str) -> Result<Server, Failure> {
        self.server(workspace, name).await?;
        let mut tx = self.write(Some(workspace)).await?;
        let server = find(&mut tx, workspace, name).await?;
        sqlx::query("DELETE FROM servers WHERE record = ?")
            .bind(server.record.id.0.to_vec())
            .execute(&mut *tx)
            .await
            .map_err(|error| broken(&error))?;
        commit(tx).await?;
        Ok(server)
    }

    /// Writes down what was seen of agents, in one transaction.
    pub(crate) async fn note(&self, seen: &[(Id, Seen)]) -> Result<(), Failure> {
        let mut tx = self.write(None).await?;
        for (agent, seen) in seen {
            let (at, build) = seen.here.as_ref().map(|(at, build)| (*at, build)).unzip();
            let statement = "UPDATE servers SET seen = coalesce(?, seen), build = coalesce(?, build), \
                             duplicate = coalesce(?, duplicate) WHERE agent = ?";
            sqlx::query(statement)
                .bind(at)
                .bind(build)
                .bind(seen.duplicate)
                .bind(agent.0.to_vec())
                .execute(&mut *tx)
                .await
                .map_err(|error| broken(&error))?;
        }
        commit(tx).await
    }
}
