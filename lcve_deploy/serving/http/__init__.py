"""HTTP: routes, connections and bodies."""
