"""Where the package meets others.  Each module imports the library that it is named after, and only
there; the estimators of ``dask`` are, as dask-ml's, scikit-learn's as well."""
