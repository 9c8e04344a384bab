"""Reading logs and tables of any format: files to Arrow tables that know where each row is from."""
