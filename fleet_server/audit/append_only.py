"""The triggers that refuse to change or delete audit rows, and to set the head back, for both kinds of database. Text only.

They stop a mistake, a hole in our own code and whoever may only write rows; the owner of the database can drop them, and is found
out by the chain.
"""

SQLITE_AUDIT = (
    "CREATE TRIGGER audit_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'rows of the audit are never changed'); END",
    "CREATE TRIGGER audit_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'rows of the audit are never deleted'); END",
)
SQLITE_HEAD = (
    ("CREATE TRIGGER audit_head_update BEFORE UPDATE ON audit_head WHEN new.id <= old.id OR new.one <> old.one "
    "BEGIN SELECT RAISE(ABORT, 'the head of the audit never goes back'); END"),
    ("CREATE TRIGGER audit_head_delete BEFORE DELETE ON audit_head "
    "BEGIN SELECT RAISE(ABORT, 'the head of the audit is never deleted'); END"),
)
POSTGRESQL_AUDIT = (
    ("CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'rows of the audit are never changed or deleted'; END $$"),
    "CREATE TRIGGER audit_row BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_all BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
)
POSTGRESQL_HEAD = (
    ("CREATE FUNCTION audit_head_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the head of the audit never goes back'; END $$"),
    ("CREATE TRIGGER audit_head_update BEFORE UPDATE ON audit_head FOR EACH ROW "
    "WHEN (new.id <= old.id OR new.one <> old.one) EXECUTE FUNCTION audit_head_refuse()"),
    "CREATE TRIGGER audit_head_delete BEFORE DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_head_refuse()",
    "CREATE TRIGGER audit_head_all BEFORE TRUNCATE ON audit_head FOR EACH STATEMENT EXECUTE FUNCTION audit_head_refuse()",
)
