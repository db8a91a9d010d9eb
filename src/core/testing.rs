//! For tests: changes as text tables (`+ 1 2`, `- 1 2`) and back.
