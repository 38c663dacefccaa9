DROP TABLE route_versions;
DROP FUNCTION route_versions_next();
