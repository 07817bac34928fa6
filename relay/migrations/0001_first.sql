-- What the relay knows: who may use it, which servers there are, and mail that it cannot open.

CREATE TABLE workspaces (
    id INTEGER PRIMARY KEY,
    genesis BLOB NOT NULL,
    founder BLOB NOT NULL UNIQUE, -- KT of the device that made it
    created INTEGER NOT NULL
);

-- The highest bundle of each identity that has ever connected. A key belongs to one identity.
CREATE TABLE identities (
    id BLOB PRIMARY KEY,
    kind INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kn BLOB NOT NULL UNIQUE,
    kt BLOB NOT NULL UNIQUE,
    bundle BLOB NOT NULL,
    workspace INTEGER REFERENCES workspaces (id) -- of a device
);

CREATE TABLE servers (
    record BLOB PRIMARY KEY,
    workspace INTEGER NOT NULL REFERENCES workspaces (id),
    name TEXT NOT NULL,
    labels TEXT NOT NULL, -- JSON object of strings
    agent BLOB,
    created INTEGER NOT NULL,
    seen INTEGER,
    build TEXT,
    suspended INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER,
    UNIQUE (workspace, name)
);

CREATE INDEX servers_by_agent ON servers (agent);

CREATE TABLE enrollments (
    id BLOB PRIMARY KEY,
    record BLOB NOT NULL REFERENCES servers (record) ON DELETE CASCADE,
    workspace INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    answer BLOB,
    answered INTEGER
);

CREATE TABLE mail (
    enrollment BLOB NOT NULL REFERENCES enrollments (id) ON DELETE CASCADE,
    hash BLOB NOT NULL,
    blob BLOB NOT NULL,
    came INTEGER NOT NULL,
    PRIMARY KEY (enrollment, hash)
);

CREATE TABLE invites (
    hash BLOB PRIMARY KEY,
    expires INTEGER NOT NULL,
    used_by BLOB -- KT of the device that used it
);
