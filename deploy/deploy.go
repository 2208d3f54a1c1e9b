// Package deploy is the production shape of Millrace: nginx in front, Prometheus
// and Grafana beside it, for the services of docker-compose.yml.
//
//	devices ─▶ ingest ─▶ Kafka ─┬▶ sink ─▶ TimescaleDB
//	screens ◀─ nginx ◀─ broadcast-1, broadcast-2
//
// Its invariant: what one file names, the others have. The tests of this package
// hold them together; there is no code.
package deploy
