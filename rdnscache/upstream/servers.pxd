from rdnscache.metrics cimport observe
