-- A key in a bundle is a claim of the bundle's owner. KT is proven by a TLS connection with it; KN never is, here.
-- Nobody is kept out by what somebody else claims, so that no column but the id is unique any more.
-- Bundles of those who were never let in go: they were written before they were refused.

CREATE TABLE admitted (
    id BLOB PRIMARY KEY,
    kind INTEGER NOT NULL,
    kt BLOB NOT NULL,
    bundle BLOB NOT NULL, -- the highest
    proven INTEGER NOT NULL DEFAULT 0, -- whether somebody with this ID has connected with this KT
    workspace INTEGER REFERENCES workspaces (id) -- of a device
);

INSERT INTO admitted (id, kind, kt, bundle, proven, workspace)
SELECT id, kind, kt, bundle, workspace IS NOT NULL, workspace FROM identities
WHERE workspace IS NOT NULL OR id IN (SELECT agent FROM servers WHERE agent IS NOT NULL);

DROP TABLE identities;

ALTER TABLE admitted RENAME TO identities;

CREATE INDEX identities_by_kt ON identities (kt);

-- A request that came after its enrollment had been answered: a second use of the token.
ALTER TABLE mail ADD COLUMN late INTEGER NOT NULL DEFAULT 0;
