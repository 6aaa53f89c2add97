-- The roles beside Strandline's own, run by psql at each `docker compose up`: everything that is
-- there stays. Needs the variables monitor_password and airflow_password.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

-- For the Postgres exporter: may read statistics, and nothing else.
SELECT 'CREATE ROLE monitor' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'monitor') \gexec
ALTER ROLE monitor LOGIN CONNECTION LIMIT 5 PASSWORD :'monitor_password';
GRANT pg_monitor TO monitor;

-- For Airflow's own state, used by the profile `airflow`.
SELECT 'CREATE ROLE airflow' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'airflow') \gexec
ALTER ROLE airflow LOGIN PASSWORD :'airflow_password';
SELECT 'CREATE DATABASE airflow OWNER airflow'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'airflow') \gexec
