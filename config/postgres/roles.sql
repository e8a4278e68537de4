-- Two users: one owns the tables and migrates them, the other, which the workers are, reads and writes rows.
-- Run once, when PostgreSQL makes its data folder. The passwords are the files that `make secrets` has made.
\set owner_password `cat /run/secrets/database_owner_password`
\set worker_password `cat /run/secrets/database_worker_password`

CREATE ROLE bridge_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE bridge_worker LOGIN PASSWORD :'worker_password';

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO bridge_owner;
GRANT USAGE ON SCHEMA public TO bridge_worker;

ALTER DEFAULT PRIVILEGES FOR ROLE bridge_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO bridge_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE bridge_owner IN SCHEMA public
    GRANT USAGE ON SEQUENCES TO bridge_worker;
