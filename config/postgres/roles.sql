-- Three users: one owns the database and its tables, and migrates them, another, which the workers are, reads and writes rows. The third is
-- the API: `bridge db grant bridge_api` gives it the rights that it needs, table by table.
-- Run once, when PostgreSQL makes its data folder. The passwords are the files that `make secrets` has made.
\set owner_password `cat /run/secrets/database_owner_password`
\set worker_password `cat /run/secrets/database_worker_password`
\set api_password `cat /run/secrets/database_api_password`

CREATE ROLE bridge_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE bridge_worker LOGIN PASSWORD :'worker_password';
CREATE ROLE bridge_api LOGIN PASSWORD :'api_password';

-- For `bridge db vacuum`: the statistics, in which PostgreSQL keeps values of the tables, are the database's owner's to vacuum.
ALTER DATABASE bridge OWNER TO bridge_owner;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO bridge_owner;
GRANT USAGE ON SCHEMA public TO bridge_worker, bridge_api;

ALTER DEFAULT PRIVILEGES FOR ROLE bridge_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO bridge_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE bridge_owner IN SCHEMA public
    GRANT USAGE ON SEQUENCES TO bridge_worker;
