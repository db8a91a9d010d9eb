//! thalweg-datagen
