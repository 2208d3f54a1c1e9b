// Package bench measures Millrace beside its peers: everything in one run on
// one machine, so that the ratios hold even where the figures do not.
//
//	make bench          all of it, one table at the end
//	make bench-ingest   one part: ingest, sink, screens, rest
//
// Its invariant: a figure counts only if what was promised was kept: every
// acknowledged message is in the log, every value in the database, every
// reading on every screen. Otherwise the benchmark fails.
package bench
