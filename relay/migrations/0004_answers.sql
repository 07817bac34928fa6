-- An enrollment is answered with one bundle, and an agent that nobody has met is forgotten with its record.

ALTER TABLE enrollments ADD COLUMN bundle BLOB; -- SHA-256 of the bundle that was accepted with the answer

DELETE FROM identities
WHERE proven = 0 AND workspace IS NULL
AND id NOT IN (SELECT agent FROM servers WHERE agent IS NOT NULL);
